"""ADE20K: 150 classes of scenes."""

from mmseg.datasets import ADE20KDataset
from mmseg.registry import DATASETS

from .seeded_files import SeededFiles


@DATASETS.register_module()
class ADE20KImages(SeededFiles, ADE20KDataset):
    """mmseg's ``ADE20KDataset``, with its arguments, and every random draw of a sample taken from its index.

    So that restarts and the number of workers do not change the crops, with :class:`EndlessSampler`.
    """
