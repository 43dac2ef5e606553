"""Images and label maps in two folders, checked before a run begins."""

import logging
import os.path as osp
from collections import Counter
from collections.abc import Sequence

import numpy as np
from mmengine.fileio import isdir
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS
from PIL import Image

from ..transforms.check_label_map import CheckLabelMap, LabelMapError
from .image_files import ENDINGS, find_images
from .segmentation_files import SegmentationFiles
from .unreadable_file import unreadable_files_named

LISTED = 5
SAMPLE = 8  # label maps decoded before a run begins
LARGE_SAMPLE = 1000  # where these leave doubts


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
        ValueError: If there are no two classes, or not a colour for each, or images of another suffix would
            be left out.
        LabelMapError: If one of the label maps that are looked at is none, or all of them label nothing, or
            only the first class beside the ignored pixels.
    """

    def __init__(self, metainfo: dict | None = None, data_root: str | None = None, **kwargs) -> None:
        meta = {**self.METAINFO, **(metainfo or {})}
        if not meta.get('classes'):
            raise ValueError(
                f"{type(self).__name__} needs metainfo=dict(classes=(...)): the classes' names, in the order "
                'of their numbers'
            )
        if len(meta['classes']) < 2:
            raise ValueError(
                f'metainfo names one class alone, {meta["classes"][0]!r}: segmentation needs two or more, '
                'and the background counts as one'
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
        """Decode a few label maps, so that mistakes made in all of them come to light at once.

        More are decoded until there are two classes in them.
        """
        few, many = (np.linspace(0, len(samples) - 1, count).astype(int) for count in (SAMPLE, LARGE_SAMPLE))
        places = dict.fromkeys([*few, *many])
        found: set[int] = set()
        for number, place in enumerate(places):
            if number >= SAMPLE and len(found - {self.ignore_index}) > 1:
                break
            found |= self._labels(samples[place])
        if len(found - {self.ignore_index}) < 2:
            self._judge(found, f'{len(places)} label maps in {self.data_prefix["seg_map_path"]}')

    def _judge(self, found: set[int], which: str) -> None:
        """Refuse label maps that label nothing, or only what is the first class by mistake."""
        ignored, advice = str(self.ignore_index), 'Give each pixel the number of its class, from 0'
        if self.reduce_zero_label:
            ignored = f'0 and {ignored}'
            advice = (
                'If 0 is a class, such as the background, set reduce_zero_label=False in the dataset and in '
                'LoadAnnotations'
            )
        if found <= {self.ignore_index}:
            why = f'nothing but {ignored}, which count for nothing' if self.label_map is None else 'no class'
            raise LabelMapError(f'{which} hold {why}, so there is nothing to learn. {advice}')
        if found == {0, self.ignore_index} and self.label_map is None:
            if self.reduce_zero_label:
                raise LabelMapError(
                    f'{which} hold nothing but 1, beside {ignored}, which are ignored. {advice}'
                )
            raise LabelMapError(
                f'{which} hold nothing but 0 and {ignored}, and {ignored} is ignored: the objects of a '
                f'two-class label map have the number 1. Replace {ignored} by 1'
            )
        (only,) = found - {self.ignore_index}
        print_log(
            f'{which} have one class alone, {self._metainfo["classes"][only]!r}: a model that learns from '
            'them finds it everywhere',
            'current',
            logging.WARNING,
        )

    def _labels(self, sample: dict) -> set[int]:
        """The labels in a sample's label map, as the model gets them."""
        sample = {**sample, 'seg_fields': [], 'num_classes': len(self._metainfo['classes'])}
        label_map = sample['seg_map_path']
        with unreadable_files_named(sample['img_path'], label_map):
            with Image.open(label_map) as opened:
                if opened.mode.startswith('I'):
                    raise LabelMapError(
                        f'{label_map} has more than 8 bits a pixel, which mmseg cuts off: save it with 8'
                    )
                sample['ori_shape'] = opened.size[::-1]  # its image's size is compared when it is read
            checked = CheckLabelMap(self.ignore_index)(LoadAnnotations()(sample))
        return set(np.unique(checked['gt_seg_map']).tolist())


def _files(folder: str) -> set[str]:
    return set(find_images(folder, ('',)).paths)


def _suffixes(names: Sequence[str]) -> Counter:
    """How many image files end how."""
    endings = (osp.splitext(name)[1] for name in names)
    return Counter(ending for ending in endings if ending.lower() in ENDINGS)


def _listed(names: Sequence[str]) -> str:
    return ', '.join(names[:LISTED]) + (', ...' if len(names) > LISTED else '')
