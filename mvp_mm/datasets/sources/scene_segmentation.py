"""The embedded scenes with their label maps, for mmseg."""

from collections.abc import Sequence

import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..samplers.sample_index import sample_draws
from ..scenes import CLASSES, PALETTE, SceneCollection

LOADING = ('LoadImageFromFile', 'LoadAnnotations')


@DATASETS.register_module()
class SceneSegmentation(BaseSegDataset):
    """Rendered scenes (see :class:`SceneCollection`) with a class for every pixel, nothing on disk.

    Nine classes: the background and eight shapes. A sample enters the pipeline with ``img`` (uint8,
    BGR as mmcv loads), ``gt_seg_map``, ``img_shape`` and ``ori_shape``: the steps that would load them are
    passed over.

    Args:
        count: Number of scenes: the labels there are to learn from.
        split: ``'train'`` (default), ``'val'`` or ``'test'``; no two share a scene.
        pipeline: Transforms of mmcv and mmseg. ``LoadImageFromFile`` and ``LoadAnnotations`` may be among
            them, for mmseg's inference on a photograph.
        size: Side in pixels. Default 64.
        scene_seed: Which collection. Default 0.
        difficulty: Default ``'standard'``.
        cache_dir: Folder for rendered pixels. Default None: rendered on the fly.

    Raises:
        ValueError: If an argument is outside of what is listed above.
    """

    METAINFO = dict(classes=CLASSES, palette=[list(colour) for colour in PALETTE])

    def __init__(
        self,
        count: int,
        split: str = 'train',
        pipeline: Sequence = (),
        size: int = 64,
        scene_seed: int = 0,
        difficulty: str = 'standard',
        cache_dir: str | None = None,
    ) -> None:
        self.collection = SceneCollection(split, count, size, scene_seed, difficulty, cache_dir)
        pipeline = [step for step in pipeline if step['type'] not in LOADING]
        super().__init__(pipeline=pipeline, serialize_data=False, lazy_init=True)
        self._fully_initialized = True  # there is no list to load

    def __len__(self) -> int:
        return len(self.collection)

    def get_data_info(self, idx: int) -> dict:
        """The sample before the pipeline."""
        image, labels = self.collection[idx]
        return dict(
            img=np.ascontiguousarray(image[..., ::-1]),
            gt_seg_map=np.array(labels),
            seg_fields=['gt_seg_map'],
            label_map=self.label_map,
            reduce_zero_label=False,
            sample_idx=idx,
            ori_shape=image.shape[:2],
            img_shape=image.shape[:2],
            img_path=f'scene-{self.collection.split}-{idx}',
            seg_map_path=None,
        )

    def __getitem__(self, idx: int) -> dict:
        """The packed sample of an index (:class:`SampleIndex` or int)."""
        info = self.get_data_info(int(idx))
        with sample_draws(idx):
            return self.pipeline(info)
