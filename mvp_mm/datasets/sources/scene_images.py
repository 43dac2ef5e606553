"""The embedded scenes with labels and captions, for pre-training, probing and CLIP."""

from collections.abc import Callable, Sequence
from typing import Any

from mmpretrain.registry import DATASETS
from PIL import Image

from ..scenes import COLOURS, SHAPES, SceneCollection
from .sample_source import SampleSource

LABELS = {
    'shape': SHAPES,
    'colour': tuple(COLOURS),
    'shape_colour': tuple(f'{colour} {shape}' for shape in SHAPES for colour in COLOURS),
}


@DATASETS.register_module()
class SceneImages(SampleSource):
    """Rendered scenes (see :class:`SceneCollection`), nothing on disk.

    A sample enters the pipeline with ``img`` (PIL, RGB), ``img_shape``, ``ori_shape`` and, where labels or
    captions are asked for, ``caption``, ``shape``, ``colour`` and ``gt_label``.

    Args:
        count: Number of scenes.
        split: ``'train'`` (default), ``'val'`` or ``'test'``; no two share a scene.
        label: What ``gt_label`` is: ``'shape'`` or ``'colour'`` of the object with most visible pixels
            (eight classes each), ``'shape_colour'`` (64, such as ``'red circle'``, by shape, then by colour),
            or None (default): no label.
        captions: Add the caption in words, and both labels. Default False.
        pipeline, fixed_draws: As of :class:`.SampleSource`; no step needs to load.
        size: As of :class:`SceneCollection`, like ``scene_seed``, ``difficulty`` and ``cache_dir``.
    """

    def __init__(
        self,
        count: int,
        split: str = 'train',
        label: str | None = None,
        captions: bool = False,
        pipeline: Sequence[dict | Callable] = (),
        fixed_draws: bool = False,
        size: int = 64,
        scene_seed: int = 0,
        difficulty: str = 'standard',
        cache_dir: str | None = None,
    ) -> None:
        if label is not None and label not in LABELS:
            raise ValueError(f'label={label!r} is none of {", ".join(map(repr, LABELS))}, None')
        self.label, self.captions = label, captions
        self.collection = SceneCollection(split, count, size, scene_seed, difficulty, cache_dir)
        super().__init__(pipeline, None if label is None else dict(classes=LABELS[label]), fixed_draws)

    def __len__(self) -> int:
        return len(self.collection)

    def sample(self, index: int) -> tuple[str, None, dict]:
        """Return the rendered scene, its labels and caption."""
        image, _ = self.collection[index]
        fields: dict[str, Any] = dict(
            img=Image.fromarray(image), ori_shape=image.shape[:2], img_shape=image.shape[:2]
        )
        if self.label is not None or self.captions:
            fields |= self.collection.describe(index)._asdict()
        if self.label is not None:
            fields['gt_label'] = self._label(fields['shape'], fields['colour'])
        return f'scene-{self.collection.split}-{index}', None, fields

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the label of a scene in a list, without rendering it."""
        scene = self.collection.describe(int(idx))
        return [self._label(scene.shape, scene.colour)]

    def _label(self, shape: int, colour: int) -> int:
        labels = dict(shape=shape, colour=colour, shape_colour=shape * len(COLOURS) + colour)
        return labels[str(self.label)]
