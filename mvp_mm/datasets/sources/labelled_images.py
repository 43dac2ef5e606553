"""Folders of labelled images, a sub-folder a class."""

import os
import os.path as osp
import re
from collections.abc import Sequence

from mmengine.logging import print_log
from mmpretrain.datasets import ImageNet
from mmpretrain.registry import DATASETS

from ...wording import counted, listed
from .image_files import ENDINGS, find_images, read_lines, require_listed, sub_folders
from .sample_source import SeededSamples

WORDNET_FOLDER = re.compile(r'n\d{8}')


@DATASETS.register_module()
class LabelledImages(SeededSamples, ImageNet):
    """mmpretrain's ``ImageNet`` for any folder of classes, with the seeded draws of :class:`.SeededSamples`.

    The sorted sub-folders of ``<data_root>/train`` are the classes of every split; without ``train``, those
    of the split that is read. ImageNet-1K's thousand have its class names.

    Args:
        data_root: Folder with ``<split>/<class>/*``.
        split: ``'train'`` or ``'val'``.
        data_prefix: Folder of the images below ``data_root``. Default: ``split``.
        ann_file: Text file with ``<path> <label>`` lines instead of class folders, by default ImageNet-1K's.
            Default ``''``: ``meta/<split>.txt`` below ``data_root`` if it is there.
        metainfo: May give ``classes`` as well.
        classes: Names for the sorted folders. Default None: ImageNet-1K's names, or the folders' own.
        **kwargs: Arguments of mmpretrain's ``ImageNet``: ``pipeline``, ``indices``, ``extensions``, ...

    Raises:
        FileNotFoundError: If there is no such folder, no image in it, or a link that leads nowhere.
        ValueError: If the classes do not fit ``train`` or ``classes``, there is one alone, or a line of
            ``ann_file`` is none.
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
        kwargs = {'classes': classes, 'extensions': ENDINGS, **kwargs}
        super().__init__(osp.expanduser(data_root), split, data_prefix, ann_file, metainfo, **kwargs)

    def load_data_list(self) -> list[dict]:
        if self.ann_file:
            samples = [self._parsed(line) for line in read_lines(self.ann_file)]
            if not samples:
                raise FileNotFoundError(f'{self.ann_file} names no image')
            require_listed(self.ann_file, [sample['img_path'] for sample in samples], self.img_prefix)
        else:
            samples = self._found()
        if self.with_label and len(self.CLASSES) < 2:
            raise ValueError(
                f'{self.ann_file or self.img_prefix} has one class alone, {self.CLASSES[0]!r}: expected a '
                'folder for each of two classes or more (images without labels are for pre-training)'
            )
        return samples

    def _parsed(self, line: str) -> dict:
        if not self.with_label:
            return dict(img_path=osp.join(self.img_prefix, line))
        match = re.fullmatch(r'(.*\S)\s+(\d+)', line)
        if match is None or int(match[2]) >= len(self.CLASSES):
            raise ValueError(
                f'{self.ann_file} has the line {line!r}: expected a path, a space and the number of a '
                f'class, 0 to {len(self.CLASSES) - 1}'
            )
        return dict(img_path=osp.join(self.img_prefix, match[1]), gt_label=int(match[2]))

    def _found(self) -> list[dict]:
        folder = self.img_prefix
        if not osp.isdir(folder):
            loaders = ('train',) if self._split == 'train' else ('val', 'test')
            options = ' '.join(f'{loader}_dataloader.dataset.data_root=DIR' for loader in loaders)
            raise FileNotFoundError(
                f'there is no image folder {folder}: give a folder with train/<class>/* and val/<class>/* in '
                f'it, with --data (mvp-mm) or --cfg-options {options}'
            )
        classes = self._class_folders() if self.with_label else []
        self.folder_to_idx = {name: number for number, name in enumerate(classes)}
        found = find_images(folder, self.extensions)
        self.unreadable_folders, self.left_out = found.unreadable_folders, found.left_out
        samples: list[dict] = [dict(img_path=osp.join(folder, path)) for path in found.paths]
        described = ''
        if self.with_label:
            # by class and then by path, the order of mmpretrain's search: seeds depend on it
            labels, parts = self.folder_to_idx, sorted(path.split(os.sep, 1) for path in found.paths)
            parts = [part for part in parts if len(part) == 2 and part[0] in labels]
            samples = [dict(img_path=osp.join(folder, *part), gt_label=labels[part[0]]) for part in parts]
            empty = labels.keys() - {part[0] for part in parts}
            note = f' (no image of {listed(sorted(empty))})' if empty else ''
            described = f' of {len(labels)} classes{note}'
        if not samples:
            raise FileNotFoundError(
                f'no image found in the sub-folders of {folder} (looked for '
                f'{", ".join(sorted(self.extensions))}{found.note})'
            )
        found.require_links(folder)
        told = f'{counted(len(samples), "image")}{described} in {folder}{found.note}'
        print_log(f'{type(self).__name__}: {told}', 'current')
        return samples

    def _class_folders(self) -> list[str]:
        """Check the folders of the classes, and name the classes."""
        folders = sub_folders(self.img_prefix)
        if not folders:
            raise FileNotFoundError(f'{self.img_prefix} has no sub-folder: expected one for each class')
        train = osp.join(self.data_root, 'train')
        if self._split and osp.isdir(train):
            expected = set(sub_folders(train))
            unknown, missing = set(folders) - expected, expected - set(folders)
            if unknown or missing:
                differences = [f'has {listed(sorted(unknown))}, which {train} lacks'] if unknown else []
                differences += [f'lacks {listed(sorted(missing))}, which {train} has'] if missing else []
                raise ValueError(
                    f'{self.img_prefix} {" and ".join(differences)}: every split needs the class folders of '
                    'train, an empty one where a class has no image'
                )
        if self._names_are_given:
            if len(self.CLASSES) != len(folders):
                raise ValueError(
                    f'{len(self.CLASSES)} classes are given, and {self.img_prefix} has {len(folders)} class '
                    'folders: give as many names, or none to take those of the folders'
                )
        elif len(folders) != len(self.CLASSES) or not all(map(WORDNET_FOLDER.fullmatch, folders)):
            self._metainfo['classes'] = tuple(folders)
        return folders
