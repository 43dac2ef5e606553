"""Images with boxes and masks, listed in a JSON file in COCO's format."""

import os.path as osp

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS

from .sample_source import SeededSamples


@DATASETS.register_module()
class CocoImages(SeededSamples, CocoDataset):
    """mmdet's ``CocoDataset``, with its arguments, seeded as all datasets of this package.

    Raises:
        FileNotFoundError: If there is no ``ann_file``.
        ValueError: If it lacks a category of ``metainfo.classes`` (default: COCO's 80), which mmdet skips.
    """

    def load_data_list(self) -> list[dict]:
        """List the images of ``ann_file`` with their instances."""
        if not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'there is no annotation file {self.ann_file} (data_root={self.data_root!r}): give '
                'train_dataloader.dataset.data_root and ann_file, those of val_ and test_dataloader, and the '
                'ann_file of val_evaluator and test_evaluator'
            )
        samples = super().load_data_list()
        classes = self.metainfo['classes']
        if len(self.cat_ids) < len(classes):
            raise ValueError(
                f'{self.ann_file} has {len(self.cat_ids)} of the {len(classes)} classes ({classes[0]}, ...): '
                'name its categories in the metainfo.classes of each dataset'
            )
        return samples
