"""Images without labels: any folder of photographs."""

import logging
import os
import re
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

from ...wording import counted
from .image_files import ENDINGS, find_images, read_lines, require_listed
from .sample_source import SeededSamples

SPLITS = ('train', 'val', 'test', 'annotations')  # names of folders that need no word
LOOKED_AT = 100  # files of another folder, for an image


@DATASETS.register_module()
class UnlabelledImages(SeededSamples, BaseDataset):
    """Every image at any depth below a folder, with seeded draws and unreadable images replaced.

    Args:
        data_root: Folder, for example ImageNet's, or a flat one of holiday pictures.
        split: Sub-folder to read if it exists. Default ``'train'``.
        ann_file: Text file (relative to the current folder) with one image path a line, absolute or relative
            to the folder read; a number after it is ignored. Default ``''``: search the folder, and sort.
        pipeline, fixed_draws, max_refetch: As of :class:`.SampleSource`.
        extensions: File name endings of images, in capitals or not. Default: those of :mod:`.image_files`.
        **kwargs: Arguments of mmpretrain's ``BaseDataset``, such as ``indices``: how many, or which, images.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no image.
    """

    replaces_unreadable = True

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        ann_file: str = '',
        pipeline: Sequence[dict | Callable] = (),
        fixed_draws: bool = False,
        extensions: Sequence[str] = ENDINGS,
        max_refetch: int = 10,
        **kwargs,
    ) -> None:
        self.split, self.fixed_draws, self.extensions = split, fixed_draws, tuple(extensions)
        kwargs |= dict(data_root=str(data_root), pipeline=pipeline, max_refetch=max_refetch)
        super().__init__(ann_file, **kwargs)

    def _join_prefix(self) -> None:
        """Paths are resolved by ``load_data_list``."""

    def load_data_list(self) -> list[dict]:
        root = Path(self.data_root).expanduser()
        if not root.is_dir() and not self.ann_file:
            loader = 'train' if self.split == 'train' else 'test'
            raise FileNotFoundError(
                f'there is no image folder {root}. Give one with --data (mvp-mm) or --cfg-options '
                f'{loader}_dataloader.dataset.data_root=DIR: ImageNet (DIR/{self.split}/<class>/*.JPEG) or '
                'any folder of images, flat or nested'
            )
        folder, note = root / self.split if (root / self.split).is_dir() else root, ''
        if folder != root and not self.ann_file:
            others = [path for path in root.iterdir() if path.is_dir() and path.name not in SPLITS]
            beside = sorted(path.name for path in others if self._begins_with_images(path))
            if beside:
                told = f'{folder} is read, and none of what lies beside it: {", ".join(beside[:5])}'
                print_log(f'{told}. Where {self.split!r} is a class, rename it', 'current', logging.WARNING)
        if self.ann_file:
            paths = [str(folder / re.sub(r'(\s+\d+)+$', '', line)) for line in read_lines(self.ann_file)]
            require_listed(self.ann_file, paths, folder)
        else:
            found = find_images(folder, self.extensions)
            self.unreadable_folders, self.left_out = found.unreadable_folders, found.left_out
            paths, note = [os.path.join(folder, path) for path in found.paths], found.note
        if not paths:
            shards = not self.ann_file and self.left_out['.tar']
            hint = '. Shards are read with train_dataloader.dataset.type=ImageTextShards' if shards else ''
            raise FileNotFoundError(
                f'no image found below {folder} (looked for {", ".join(self.extensions)} at any depth{note})'
                f'{hint}'
            )
        source = self.ann_file or 'all below it'
        used = '' if self._indices is None else f'; of these only indices={self._indices} are used'
        print_log(
            f'{type(self).__name__}: {counted(len(paths), "image")} of {folder} ({source}){note}{used}',
            'current',
        )
        return [dict(img_path=path) for path in paths]

    def _begins_with_images(self, folder: Path) -> bool:
        files = (path.suffix.lower() for path in islice(folder.iterdir(), LOOKED_AT))
        return any(ending in self.extensions for ending in files)
