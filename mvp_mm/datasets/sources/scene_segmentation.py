"""The embedded scenes with their label maps, for mmseg."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..scenes import CLASSES, PALETTE, SceneCollection
from .sample_source import SeededSamples

LOADING = ('LoadImageFromFile', 'LoadAnnotations')


@DATASETS.register_module()
class SceneSegmentation(SeededSamples, BaseSegDataset):
    """Rendered scenes (see :class:`SceneCollection`) with a class for every pixel, nothing on disk.

    Nine classes: the background and eight shapes. Arguments of :class:`SceneImages`. A sample enters the
    pipeline of mmcv's and mmseg's transforms with ``img`` (uint8, BGR as mmcv loads), ``gt_seg_map``,
    ``img_shape`` and ``ori_shape``; steps that would load them, for inference on a photograph, are skipped.
    """

    METAINFO = dict(classes=CLASSES, palette=[list(colour) for colour in PALETTE])

    def __init__(
        self,
        count: int,
        split: str = 'train',
        pipeline: Sequence[dict] = (),
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
        image, labels = self.collection[idx]
        sample: dict[str, Any] = dict(img_path=f'scene-{self.collection.split}-{idx}', sample_idx=idx)
        sample |= dict(img=np.ascontiguousarray(image[..., ::-1]), gt_seg_map=np.array(labels))
        sample |= dict(seg_map_path=None, seg_fields=['gt_seg_map'], label_map=self.label_map)
        shape = image.shape[:2]
        return dict(sample, ori_shape=shape, img_shape=shape, reduce_zero_label=False)
