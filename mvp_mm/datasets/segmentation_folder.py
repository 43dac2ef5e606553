"""Images and label maps in two folders, checked before a run begins."""

import os.path as osp
from collections import Counter
from collections.abc import Sequence

import numpy as np
from mmengine.fileio import isdir
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS
from PIL import Image

from .check_label_map import CheckLabelMap, LabelMapError
from .image_files import ENDINGS, find_images
from .segmentation_files import SegmentationFiles
from .unreadable_file import unreadable_files_named

LISTED = 5
SAMPLE = 8  # label maps decoded before a run begins


@DATASETS.register_module()
class SegmentationFolder(SegmentationFiles, BaseSegDataset):
    """mmseg's ``BaseSegDataset``, with a word about what is wrong with the files.

    Layout: ``images/<split>/**`` and ``annotations/<split>/**`` below ``data_root``, or what
    ``data_prefix`` says; a label map has the name of its image. Its pixels are class numbers from 0, and
    255 is ignored. Put ``CheckLabelMap`` behind ``LoadAnnotations`` in the pipeline: a few label maps are
    decoded when the dataset is built, the others are checked when they are read.

    Args:
        metainfo: ``classes``, the names in the order of the numbers, and ``palette``, RGB colours for
            pictures (default: drawn at random).
        data_root: The folder above.
        **kwargs: Arguments of mmseg's ``BaseSegDataset``: ``data_root``, ``data_prefix``, ``img_suffix``
            (default ``'.jpg'``), ``seg_map_suffix`` (default ``'.png'``), ``pipeline``, ...

    Raises:
        FileNotFoundError: If a folder, or the label map of an image, is missing, or no image has the
            suffix.
        ValueError: If there are no classes, or not a colour for each, or images of another suffix would be
            left out.
        LabelMapError: If one of the label maps that are looked at is none.
    """

    def __init__(self, metainfo: dict | None = None, data_root: str | None = None, **kwargs) -> None:
        meta = {**self.METAINFO, **(metainfo or {})}
        if not meta.get('classes'):
            raise ValueError(
                f"{type(self).__name__} needs metainfo=dict(classes=(...)): the classes' names, in the order "
                'of their numbers'
            )
        if meta.get('palette') and len(meta['palette']) < len(meta['classes']):
            raise ValueError(
                f'metainfo has {len(meta["palette"])} colours for {len(meta["classes"])} classes: give one '
                'for each, or no palette'
            )
        root = None if data_root is None else osp.expanduser(data_root)
        super().__init__(metainfo=metainfo, data_root=root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The samples, after a look at the files."""
        images = self.data_prefix['img_path']
        annotations = self.data_prefix.get('seg_map_path')
        for folder, key in ((images, 'img_path'), (annotations, 'seg_map_path')):
            if folder is not None and not isdir(folder):
                raise FileNotFoundError(
                    f'there is no folder {folder} (data_root={self.data_root!r}, data_prefix.{key}). Give '
                    'the folder above with --cfg-options train_dataloader.dataset.data_root=DIR '
                    'val_dataloader.dataset.data_root=DIR test_dataloader.dataset.data_root=DIR: one with '
                    'images/<split> and annotations/<split> in it'
                )
        if self.ann_file and not osp.isfile(self.ann_file):
            raise FileNotFoundError(f'there is no list of names {self.ann_file} (ann_file)')
        samples = super().load_data_list()
        if not samples:
            self._raise_no_images(images)
        if annotations is not None:
            self._require_pairs(samples, images, annotations)
            self._require_label_maps(samples)
        for sample in samples:
            sample['num_classes'] = len(self._metainfo['classes'])
        return samples

    def _raise_no_images(self, folder: str) -> None:
        if self.ann_file:
            raise FileNotFoundError(f'{self.ann_file} names no image')
        others = _suffixes(_files(folder))
        if not others:
            raise FileNotFoundError(f'{folder} has no image in it')
        suffix = max(others, key=others.get)
        found = ', '.join(f'{count} *{name}' for name, count in others.most_common(LISTED))
        raise FileNotFoundError(
            f'{folder} has no image *{self.img_suffix}, but {found}: set img_suffix (--cfg-options '
            f'train_dataloader.dataset.img_suffix={suffix}, and the same for val_dataloader and '
            'test_dataloader)'
        )

    def _require_pairs(self, samples: list[dict], images: str, annotations: str) -> None:
        """Every image has its label map, and no label map belongs to an image that would not be read."""
        present = _files(annotations)
        expected = {osp.relpath(sample['seg_map_path'], annotations) for sample in samples}
        missing = sorted(expected.difference(present))
        if missing:
            others = _suffixes(name for name in present if not name.endswith(self.seg_map_suffix))
            hint = f'. There are *{", *".join(others)}: is seg_map_suffix right?' if others else ''
            if not others and present:
                hint = f'. There is {min(present)}, for example: images and label maps need the same names'
            raise FileNotFoundError(
                f'{annotations} lacks the label maps of {len(missing)} of {len(samples)} images: '
                f'{_listed(missing)}{hint}'
            )
        if self.ann_file:
            return
        stems = {name.removesuffix(self.seg_map_suffix) for name in present.difference(expected)}
        unread = sorted(name for name in _files(images) if osp.splitext(name)[0] in stems)
        if unread:
            raise ValueError(
                f'{len(unread)} images in {images} with label maps do not end with {self.img_suffix!r} and '
                f'would be left out: {_listed(unread)}. Give all images one suffix (img_suffix)'
            )

    def _require_label_maps(self, samples: list[dict]) -> None:
        """Decode a few label maps, so that mistakes made in all of them come to light at once."""
        load, check = LoadAnnotations(), CheckLabelMap(self.ignore_index)
        found = set()
        for place in sorted({*np.linspace(0, len(samples) - 1, SAMPLE).astype(int)}):
            sample = {**samples[place], 'seg_fields': [], 'num_classes': len(self._metainfo['classes'])}
            image, label_map = sample['img_path'], sample['seg_map_path']
            with unreadable_files_named(image, label_map):
                with Image.open(label_map) as opened:
                    if opened.mode.startswith('I'):
                        raise LabelMapError(
                            f'{label_map} has more than 8 bits a pixel, which mmseg cuts off: save it with 8'
                        )
                    sample['ori_shape'] = opened.size[::-1]  # its image's size is compared when it is read
                found.update(np.unique(check(load(sample))['gt_seg_map']).tolist())
        if found == {0, self.ignore_index} and self.ignore_index == 255 and self.label_map is None:
            raise LabelMapError(
                f'the {min(SAMPLE, len(samples))} label maps looked at in {self.data_prefix["seg_map_path"]} '
                'hold nothing but 0 and 255, and 255 is ignored: the objects of a two-class label map have '
                'the number 1. Replace 255 by 1'
            )


def _files(folder: str) -> set[str]:
    return set(find_images(folder, ('',)).paths)


def _suffixes(names: Sequence[str]) -> Counter:
    """How many image files end how."""
    endings = (osp.splitext(name)[1] for name in names)
    return Counter(ending for ending in endings if ending.lower() in ENDINGS)


def _listed(names: Sequence[str]) -> str:
    return ', '.join(names[:LISTED]) + (', ...' if len(names) > LISTED else '')
