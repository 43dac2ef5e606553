"""Images without labels: any folder of photographs."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS, TRANSFORMS

from ..samplers.sample_index import SampleIndex, seeded_draws
from ..transforms.load_rgb_image import UnreadableImageError
from .image_files import ENDINGS, find_images
from .name_list import read_lines, require_listed


@DATASETS.register_module()
class UnlabelledImages(BaseDataset):
    """Every image at any depth below a folder.

    Reads ``data_root/<split>`` if there is such a folder, else ``data_root`` itself, so ImageNet's tree
    and a flat folder of holiday pictures both work. Every random draw of a sample (crop, jitter, flip,
    mask) derives from (seed, epoch, index) when the loader uses :class:`EpochSampler`; a plain integer
    index draws from the process's random state, as any OpenMMLab dataset does.

    An unreadable image is replaced by another one, drawn from the same (seed, epoch, index); the packed
    sample's ``unreadable`` then lists ``(path, reason)`` for :class:`UnreadableImagesHook`.

    Args:
        data_root: Folder.
        split: Sub-folder to prefer. Default ``'train'``.
        ann_file: Text file (its path as seen from the current folder) with one image path a line,
            absolute or relative to the folder read; a number after it, ImageNet's label, is ignored.
            Default ``''``: search the folder, as :func:`.find_images` does.
        pipeline: Transforms.
        fixed_draws: Draw the same crop and mask of an image in every epoch. Default False.
        extensions: File name endings that count as images, in capitals or not. Default: those of
            :mod:`.image_files`.
        max_refetch: Replacements to try for one sample. Default 10.
        indices: Use only the first so many images, or these. Default None: all.
        **kwargs: Further arguments of MMEngine's ``BaseDataset``.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no image.
    """

    METAINFO: dict = dict()

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        ann_file: str = '',
        pipeline: Sequence = (),
        fixed_draws: bool = False,
        extensions: Sequence[str] = ENDINGS,
        max_refetch: int = 10,
        indices: int | Sequence[int] | None = None,
        **kwargs,
    ) -> None:
        self.split = split
        self.fixed_draws = fixed_draws
        self.extensions = tuple(extensions)
        self.unreadable_folders: dict[str, str] = {}  # by path: why their images are missing
        self.left_out: Counter = Counter()  # files that are not images, by the ending of their names
        super().__init__(
            ann_file=ann_file,
            data_root=str(data_root),
            data_prefix=dict(img_path=''),
            # built here, because MMEngine would look for names in its own registry only
            pipeline=[TRANSFORMS.build(step) if isinstance(step, dict) else step for step in pipeline],
            max_refetch=max_refetch,
            indices=indices,
            **kwargs,
        )

    def _join_prefix(self) -> None:
        """Paths are resolved by ``load_data_list``."""

    def load_data_list(self) -> list[dict]:
        """Find the images, in sorted order."""
        root = Path(self.data_root).expanduser()
        if not root.is_dir() and not self.ann_file:
            loader = 'train' if self.split == 'train' else 'test'
            raise FileNotFoundError(
                f'there is no image folder {root}. Give one with --data (mvp-mm) or --cfg-options '
                f'{loader}_dataloader.dataset.data_root=DIR: ImageNet (DIR/{self.split}/<class>/*.JPEG) or '
                'any folder of images, flat or nested (a name with spaces only in a config: the command '
                'line removes them)'
            )
        folder = root / self.split if self.split and (root / self.split).is_dir() else root
        note = ''
        if self.ann_file:
            lines = read_lines(Path(self.ann_file).expanduser())
            paths = [str(folder / re.sub(r'(\s+\d+)+$', '', line)) for line in lines]
            require_listed(self.ann_file, paths, folder)
            source = self.ann_file
        else:
            found = find_images(folder, self.extensions)
            self.unreadable_folders, self.left_out = found.unreadable_folders, found.left_out
            paths = [os.path.join(folder, path) for path in found.paths]
            source, note = 'all below it', found.note
        if not paths:
            raise FileNotFoundError(
                f'no image found below {folder} (looked for {", ".join(self.extensions)} at any depth{note})'
            )
        used = '' if self._indices is None else f'; of these only indices={self._indices} are used'
        print_log(f'{type(self).__name__}: {len(paths)} images of {folder} ({source}){note}{used}', 'current')
        return [dict(img_path=path) for path in paths]

    def __getitem__(self, index: int) -> dict:
        """The packed sample of an index (:class:`SampleIndex` or int).

        Raises:
            UnreadableImageError: If ``max_refetch`` replacements in a row cannot be read either.
        """
        self.full_init()
        entropy = self._entropy(index)
        candidate = int(index)
        unreadable: list[tuple[str, str]] = []
        for attempt in range(self.max_refetch + 1):
            info = self.get_data_info(candidate)
            try:
                sample = self._transformed(info, entropy and (*entropy, attempt))
            except UnreadableImageError as error:
                unreadable.append((info['img_path'], str(error)))
                candidate = self._replacement(entropy and (*entropy, attempt, 1))
                continue
            if unreadable and 'data_samples' in sample:
                sample['data_samples'].set_field(unreadable, 'unreadable', field_type='metainfo')
            return sample
        listed = '\n'.join(f'  {path}: {reason}' for path, reason in unreadable)
        raise UnreadableImageError(
            f'{len(unreadable)} images in a row cannot be read, so this is more than a few bad files. Is '
            f'the storage mounted and readable?\n{listed}'
        )

    def _entropy(self, index: int) -> tuple[int, ...] | None:
        if isinstance(index, SampleIndex):
            return index.seed, 0 if self.fixed_draws else index.epoch, int(index)
        return (0, 0, int(index)) if self.fixed_draws else None

    def _replacement(self, entropy: tuple[int, ...] | None) -> int:
        if entropy is None:
            return int(np.random.randint(len(self)))
        # A stream of its own, so that the replacement's crop is not tied to which image it is.
        return int(np.random.default_rng(entropy).integers(len(self)))

    def _transformed(self, info: dict, entropy: tuple[int, ...] | None) -> dict:
        if entropy is None:
            return self.pipeline(info)
        with seeded_draws(*entropy):
            return self.pipeline(info)
