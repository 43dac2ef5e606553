"""Labelled image folders whose augmentation does not depend on who reads them."""

import os.path as osp
import re
from collections.abc import Sequence

from mmengine.fileio import exists, join_path, list_dir_or_file
from mmengine.logging import print_log
from mmpretrain.datasets import ImageNet
from mmpretrain.datasets.custom import get_samples
from mmpretrain.registry import DATASETS

from .seeded_files import SeededFiles

IMAGENET_FOLDER = re.compile(r'n\d{8}')  # WordNet's number of a class


@DATASETS.register_module()
class LabelledImages(SeededFiles, ImageNet):
    """mmpretrain's ``ImageNet``, for any folder of classes, with every random draw of a sample taken from
    (seed, epoch, index).

    The sub-folders of ``<data_root>/train``, sorted, are the classes of every split; where there is no
    such folder, those of the split that is read. ImageNet-1K's thousand have its class names.

    Draws depend on (seed, epoch, index) alone when the loader uses :class:`EpochSampler`; then restarts,
    workers and processes change nothing about a sample. A plain integer index draws from the process's
    random state.

    Args:
        data_root: Folder with ``<split>/<class>/*``.
        split: ``'train'`` or ``'val'``.
        data_prefix: Folder of the images below ``data_root``. Default: ``split``.
        ann_file: Text file with ``<path> <label>`` lines instead of class folders. Default ``''``:
            ``meta/<split>.txt`` below ``data_root`` if it is there. Its classes are ImageNet-1K's unless
            ``classes`` are given.
        metainfo: May give ``classes`` as well.
        classes: Names for the sorted folders, as many as there are folders. Default None: ImageNet-1K's
            names, or the folders' own.
        **kwargs: Further arguments of mmpretrain's ``ImageNet``: ``pipeline``, ``indices``, ...

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
        ValueError: If the folders of the split are not those of ``train``, or not as many as ``classes``.
    """

    def __init__(
        self,
        data_root: str = '',
        split: str = '',
        data_prefix: str | dict = '',
        ann_file: str = '',
        metainfo: dict | None = None,
        classes: str | Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        self._split = split if data_prefix == '' else ''
        self._names_are_given = classes is not None or 'classes' in (metainfo or {})
        super().__init__(
            osp.expanduser(data_root), split, data_prefix, ann_file, metainfo, classes=classes, **kwargs
        )

    def _find_samples(self) -> list[tuple[str, int]]:
        """Files below the folder read, each with the number of its class."""
        if not exists(self.img_prefix):
            loaders = ('train',) if self._split == 'train' else ('val', 'test')
            options = ' '.join(f'{loader}_dataloader.dataset.data_root=DIR' for loader in loaders)
            raise FileNotFoundError(
                f'there is no image folder {self.img_prefix}. Give the folder above it with --cfg-options '
                f'{options}: a folder with train/<class>/* and val/<class>/* in it'
            )
        if not self.with_label:
            return super()._find_samples()
        folders = self._class_folders()
        self.folder_to_idx = {name: number for number, name in enumerate(folders)}
        samples, empty = get_samples(self.img_prefix, self.folder_to_idx, self.is_valid_file)
        if not samples:
            raise FileNotFoundError(
                f'no image found in the sub-folders of {self.img_prefix} (looked for '
                f'{", ".join(sorted(self.extensions))})'
            )
        counts = f'{len(samples)} images of {len(folders)} classes in {self.img_prefix}'
        note = f' (no image of {_listed(empty)})' if empty else ''
        print_log(f'{type(self).__name__}: {counts}{note}', 'current')
        return samples

    def _class_folders(self) -> list[str]:
        """The checked folders of the classes; names the classes."""
        folders = _subfolders(self.img_prefix)
        if not folders:
            raise FileNotFoundError(f'{self.img_prefix} has no sub-folder: expected one for each class')
        train = join_path(self.data_root, 'train')
        if self._split and exists(train):
            expected = set(_subfolders(train))
            unknown, missing = sorted(set(folders) - expected), sorted(expected - set(folders))
            if unknown or missing:
                differences = [f'has {_listed(unknown)}, which {train} lacks'] if unknown else []
                differences += [f'lacks {_listed(missing)}, which {train} has'] if missing else []
                raise ValueError(
                    f'{self.img_prefix} {" and ".join(differences)}: every split needs the class folders of '
                    'train (an empty folder where a class has no image)'
                )
        if self._names_are_given:
            if len(self.CLASSES) != len(folders):
                raise ValueError(
                    f'{len(self.CLASSES)} classes are given, and {self.img_prefix} has {len(folders)} class '
                    'folders: give as many names, or none to take those of the folders'
                )
        elif len(folders) != len(self.CLASSES) or not all(map(IMAGENET_FOLDER.fullmatch, folders)):
            self._metainfo['classes'] = tuple(folders)
        return folders


def _subfolders(folder: str) -> list[str]:
    found = list_dir_or_file(folder, list_dir=True, list_file=False, recursive=False)
    return sorted(name for name in found if not name.startswith('.'))


def _listed(names: Sequence[str]) -> str:
    shown = ', '.join(sorted(names)[:5])
    return shown if len(names) <= 5 else f'{shown}, ... ({len(names)})'
