"""Labelled image folders whose augmentation does not depend on who reads them."""

from mmpretrain.datasets import ImageNet
from mmpretrain.registry import DATASETS

from .sample_index import SampleIndex, seeded_draws


@DATASETS.register_module()
class LabelledImages(ImageNet):
    """mmpretrain's ``ImageNet``, with every random draw of a sample taken from (seed, epoch, index).

    That holds when the loader uses :class:`EpochSampler`; then restarts, workers and processes change
    nothing about a sample. A plain integer index draws from the process's random state.

    Args:
        data_root: Folder with ``<split>/<class>/*``.
        split: ``'train'`` or ``'val'``.
        classes: Names of the folders, sorted, where they are not ImageNet-1K's; a split with another
            number of them is an error.
        **kwargs: Further arguments of mmpretrain's ``ImageNet``: ``pipeline``, ``ann_file``, ...
    """

    def prepare_data(self, idx: int) -> dict | None:
        """The packed sample of an index (:class:`SampleIndex` or int)."""
        if not isinstance(idx, SampleIndex):
            return super().prepare_data(idx)
        with seeded_draws(idx.seed, idx.epoch, int(idx)):
            return super().prepare_data(idx)
