"""ADE20K: 150 classes of scenes."""

from mmseg.datasets import ADE20KDataset
from mmseg.registry import DATASETS

from .segmentation_files import SegmentationFiles


@DATASETS.register_module()
class ADE20KImages(SegmentationFiles, ADE20KDataset):
    """mmseg's ``ADE20KDataset``, with its arguments.

    Files are found as by all datasets of this package, and every random draw of a sample is taken from its
    index, so that restarts and the number of workers do not change the crops, with :class:`EndlessSampler`.
    """
