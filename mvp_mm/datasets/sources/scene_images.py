"""The embedded scenes as images with labels and captions, for pre-training, probing and CLIP."""

from collections.abc import Sequence

from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS, TRANSFORMS
from PIL import Image

from ..samplers.sample_index import sample_draws
from ..scenes import COLOURS, SHAPES, SceneCollection

LABELS = {'shape': SHAPES, 'colour': tuple(COLOURS)}


@DATASETS.register_module()
class SceneImages(BaseDataset):
    """Rendered scenes (see :class:`SceneCollection`), nothing on disk.

    A sample enters the pipeline with ``img`` (PIL, RGB), ``img_shape``, ``ori_shape``, ``sample_idx``
    and, where labels or captions are asked for, ``caption``, ``shape``, ``colour`` and ``gt_label``.
    Every random draw of a sample derives from (seed, epoch, index) when the loader uses
    :class:`EpochSampler`.

    Args:
        count: Number of scenes.
        split: ``'train'`` (default), ``'val'`` or ``'test'``; no two share a scene.
        label: What ``gt_label`` is: ``'shape'`` or ``'colour'`` of the object with most visible pixels
            (eight classes each), or None (default): no label.
        captions: Add the caption in words, and both labels. Default False.
        pipeline: Transforms, without a step that loads.
        fixed_draws: Draw the same crop and mask of an image in every epoch. Default False.
        size: Side in pixels. Default 64.
        scene_seed: Which collection. Default 0.
        difficulty: Default ``'standard'``.
        cache_dir: Folder for rendered pixels. Default None: rendered on the fly.

    Raises:
        ValueError: If an argument is outside of what is listed above.
    """

    METAINFO: dict = dict()

    def __init__(
        self,
        count: int,
        split: str = 'train',
        label: str | None = None,
        captions: bool = False,
        pipeline: Sequence = (),
        fixed_draws: bool = False,
        size: int = 64,
        scene_seed: int = 0,
        difficulty: str = 'standard',
        cache_dir: str | None = None,
    ) -> None:
        if label is not None and label not in LABELS:
            raise ValueError(f"label={label!r} is none of 'shape', 'colour', None")
        self.label = label
        self.captions = captions
        self.fixed_draws = fixed_draws
        self.collection = SceneCollection(split, count, size, scene_seed, difficulty, cache_dir)
        super().__init__(
            metainfo=None if label is None else dict(classes=LABELS[label]),
            # built here, because MMEngine would look for names in its own registry only
            pipeline=[TRANSFORMS.build(step) if isinstance(step, dict) else step for step in pipeline],
            serialize_data=False,
            lazy_init=True,  # there is no list to load
        )
        self._fully_initialized = True

    def __len__(self) -> int:
        return len(self.collection)

    def get_data_info(self, idx: int) -> dict:
        """The sample before the pipeline."""
        image, _ = self.collection[idx]
        info = dict(
            img=Image.fromarray(image), sample_idx=idx, ori_shape=image.shape[:2], img_shape=image.shape[:2]
        )
        if self.label is not None or self.captions:
            description = self.collection.describe(idx)
            info.update(vars(description))
            if self.label is not None:
                info['gt_label'] = info[self.label]
        return info

    def get_cat_ids(self, idx: int) -> list[int]:
        """The label of an index, for samplers that balance classes."""
        return [getattr(self.collection.describe(idx), self.label)]

    def __getitem__(self, idx: int) -> dict:
        """The packed sample of an index (:class:`SampleIndex` or int)."""
        info = self.get_data_info(int(idx))
        with sample_draws(idx, self.fixed_draws):
            return self.pipeline(info)
