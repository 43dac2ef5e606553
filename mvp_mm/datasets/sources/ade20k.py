"""ADE20K: 150 classes of scenes."""

from mmseg.datasets import ADE20KDataset
from mmseg.registry import DATASETS

from .segmentation_folder import SegmentationFiles


@DATASETS.register_module()
class ADE20KImages(SegmentationFiles, ADE20KDataset):
    """mmseg's ``ADE20KDataset``, with its arguments, searched and seeded as all datasets of this package."""
