"""How every dataset of this package reads a sample, and the base class of sources of one's own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmpretrain.datasets import BaseDataset as PretrainDataset
from PIL import Image

from ..samplers.sample_index import sample_entropy, seeded_draws
from ..transforms.decode_image import UNREADABLE, UnreadableImageError


class SeededSamples(BaseDataset):
    """A mixin, first among the bases of a dataset: seed the draws of each sample, handle unreadable files.

    Every random draw of a sample (crop, jitter, flip, mask) derives from (seed, epoch, index) when the index
    is a :class:`SampleIndex`; a plain integer draws from the process's random state.
    """

    fixed_draws = False  # draw the same in every epoch
    # Replace a sample that cannot be read by another, drawn from the same (seed, epoch, index), up to
    # `max_refetch` times, and list what failed in `data_samples.unreadable`, for UnreadableImagesHook.
    replaces_unreadable = False

    def prepare_data(self, idx: int) -> dict:
        """Return the packed sample of an index (:class:`SampleIndex` or int).

        Raises:
            UnreadableImageError: If it cannot be decoded, nor its replacements.
        """
        entropy, candidate = sample_entropy(idx, self.fixed_draws), int(idx)
        unreadable: list[tuple[str, str]] = []
        for attempt in range(self.max_refetch + 1):
            seeds = (*entropy, attempt) if entropy else ()
            key = str(candidate)
            try:
                with seeded_draws(*seeds):  # a source may draw as well: one of several captions
                    info = self.get_data_info(candidate)
                    key = info.get('key', info.get('img_path'))
                    in_memory = 'img' in info or 'img_bytes' in info
                    files = ('' if in_memory else info.get('img_path'), info.get('seg_map_path'))
                    with unreadable_files_named(*filter(None, files)):
                        sample = self.pipeline(info)
            except UnreadableImageError as error:
                if not self.replaces_unreadable:
                    raise
                unreadable.append((key, error.reason))
                # A stream of its own, so that the replacement's crop is not tied to which image it is.
                draw = np.random.default_rng((*seeds, 1)).integers if seeds else np.random.randint
                near = self.replacements(int(idx)) if attempt < self.max_refetch // 2 else range(len(self))
                candidate = near[int(draw(len(near)))]
                continue
            if unreadable and 'data_samples' in sample:
                sample['data_samples'].set_field(unreadable, 'unreadable', field_type='metainfo')
            return sample
        lines = [f'{len(unreadable)} images in a row cannot be read. Is the storage mounted?']
        lines += [f'  {key}: {reason}' for key, reason in unreadable]
        raise UnreadableImageError('\n'.join(lines))

    def replacements(self, index: int) -> range:
        """Return the samples of which one replaces an unreadable one, at first; then it is one of all."""
        return range(len(self))


class SampleSource(SeededSamples, PretrainDataset):
    """Base class of a source of one's own: define ``__len__`` and :meth:`sample`, and register the class.

    Args:
        pipeline: Transforms.
        metainfo: Facts about the dataset, such as ``classes``. Default None.
        fixed_draws: Draw the same crop and mask of a sample in every epoch. Default False.
        max_refetch: Replacements to try for a sample that cannot be read. Default 10.
    """

    replaces_unreadable = True

    def __init__(
        self,
        pipeline: Sequence[dict | Callable] = (),
        metainfo: dict | None = None,
        fixed_draws: bool = False,
        max_refetch: int = 10,
    ) -> None:
        options = dict(pipeline=pipeline, max_refetch=max_refetch, serialize_data=False, lazy_init=True)
        super().__init__('', metainfo, **options)
        self.fixed_draws = fixed_draws
        self._fully_initialized = True  # there is no list to load

    def __len__(self) -> int:
        raise NotImplementedError(f'{type(self).__name__} must define __len__')

    def sample(self, index: int) -> tuple[str, bytes | str | None, dict[str, Any]]:
        """Return the sample of an index before the pipeline.

        Returns:
            Its key, which names it in errors and logs; the bytes or the path of its image file, or None if
            the fields hold a decoded ``img``; and the fields, entries that the pipeline finds by name.
        """
        raise NotImplementedError(f'{type(self).__name__} must define sample(index)')

    def get_data_info(self, idx: int) -> dict:
        """Return what enters the pipeline: ``key``, the fields, and ``img_bytes`` or ``img_path``."""
        key, content, fields = self.sample(int(idx))
        info = dict(fields, key=key, sample_idx=int(idx))
        if isinstance(content, bytes):
            info.update(img_bytes=content, img_path=key)
        elif content is not None:
            info['img_path'] = str(content)
        return info


@contextmanager
def unreadable_files_named(*paths: str) -> Iterator[None]:
    """If a block fails and one of its image files cannot be decoded, name the file and say what to do.

    mmcv's loaders fail without the file's name. Files are only looked at after a failure.
    """
    try:
        yield
    except UnreadableImageError:
        raise
    except Exception as error:
        for path in paths:
            try:
                with Image.open(path) as image:
                    image.load()
            except UNREADABLE as reason:
                raise UnreadableImageError.of(path, f'{type(reason).__name__}: {reason}') from error
        raise
