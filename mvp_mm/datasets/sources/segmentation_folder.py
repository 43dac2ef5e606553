"""Images and label maps in two folders, checked before a run begins."""

import logging
import os.path as osp
from collections import Counter
from collections.abc import Iterable

import numpy as np
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS
from PIL import Image

from ...wording import counted, listed
from ..transforms.check_label_map import CheckLabelMap, LabelMapError
from .image_files import ENDINGS, find_images, missing_image, read_lines
from .sample_source import SeededSamples, unreadable_files_named

LOADERS = ('train', 'val', 'test')
SAMPLE = 8  # label maps decoded before a run begins
LARGE_SAMPLE = 1000  # if these leave doubts


class SegmentationFiles(SeededSamples, BaseSegDataset):
    """A mixin for mmseg's datasets of files: find them by :func:`.find_images`, seed the draws of samples.

    ``img_suffix`` and ``seg_map_suffix`` match in capitals or not. ``ann_file`` lists names without suffix,
    one a line.
    """

    def load_data_list(self) -> list[dict]:
        """List the samples, sorted by image, or in the order of ``ann_file``."""
        images, label_maps = self.data_prefix['img_path'], self.data_prefix.get('seg_map_path')
        note = ''
        if self.ann_file:
            suffix = self.img_suffix
            names = [line.removesuffix(suffix) + suffix for line in read_lines(self.ann_file)]
            for name in names:
                if not osp.isfile(path := osp.join(images, name)):
                    raise missing_image(path, self.ann_file)
        else:
            found = find_images(images, (self.img_suffix,))
            found.require_links(images)
            self.left_out, self.unreadable_folders = found.left_out, found.unreadable_folders
            names, note = found.paths, found.note
        print_log(f'{type(self).__name__}: {counted(len(names), "image")} in {images}{note}', 'current')
        common = dict(label_map=self.label_map, reduce_zero_label=self.reduce_zero_label)
        samples = [dict(img_path=osp.join(images, name), **common, seg_fields=[]) for name in names]
        if label_maps is not None:
            end = -len(self.seg_map_suffix) or None
            maps = {name[:end]: name for name in find_images(label_maps, (self.seg_map_suffix,)).paths}
            for sample, name in zip(samples, names, strict=True):
                stem = name[: len(name) - len(self.img_suffix)]
                sample['seg_map_path'] = osp.join(label_maps, maps.get(stem, stem + self.seg_map_suffix))
        return samples


@DATASETS.register_module()
class SegmentationFolder(SegmentationFiles):
    """mmseg's ``BaseSegDataset`` that says what is wrong with the files.

    Layout: ``images/<split>/**`` and ``annotations/<split>/**`` below ``data_root``, or as in
    ``data_prefix``; a label map has the name of its image. Its pixels are class numbers from 0, and 255 is
    ignored. Put ``CheckLabelMap`` behind ``LoadAnnotations`` in the pipeline: a few label maps are decoded
    when the dataset is built, the others are checked when they are read.

    Args:
        metainfo: ``classes``, names by number, and ``palette``, RGB colours (default: drawn at random).
        data_root: The folder above.
        **kwargs: Arguments of mmseg's ``BaseSegDataset``: ``data_prefix``, ``img_suffix`` (default
            ``'.jpg'``), ``seg_map_suffix`` (default ``'.png'``), ``pipeline``, ...

    Raises:
        FileNotFoundError: If a folder or a label map is missing, or no image has the suffix.
        ValueError: If classes are fewer than two or than colours need, or images would be left out.
        LabelMapError: If the label maps looked at are none, or label nothing.
    """

    def __init__(self, metainfo: dict | None = None, data_root: str | None = None, **kwargs) -> None:
        meta = {**self.METAINFO, **(metainfo or {})}
        classes, palette = meta.get('classes'), meta.get('palette')
        if not classes:
            raise ValueError(f'{type(self).__name__} needs metainfo=dict(classes=(...)), names by number')
        if len(classes) < 2:
            raise ValueError(
                f'metainfo names one class alone, {classes[0]!r}: segmentation needs two or more, and the '
                'background counts as one'
            )
        if palette and len(palette) < len(classes):
            raise ValueError(
                f'metainfo has {len(palette)} colours for {len(classes)} classes: give one for each, or none'
            )
        root = data_root and osp.expanduser(data_root)
        super().__init__(metainfo=metainfo, data_root=root, **kwargs)

    def load_data_list(self) -> list[dict]:
        images, annotations = self.data_prefix['img_path'], self.data_prefix.get('seg_map_path')
        for folder, key in ((images, 'img_path'), (annotations, 'seg_map_path')):
            if folder is not None and not osp.isdir(folder):
                options = ' '.join(f'{name}_dataloader.dataset.data_root=DIR' for name in LOADERS)
                raise FileNotFoundError(
                    f'there is no folder {folder} (data_root={self.data_root!r}, data_prefix.{key}). Give '
                    f'the one of images/<split> and annotations/<split>: --cfg-options {options}'
                )
        if self.ann_file and not osp.isfile(self.ann_file):
            raise FileNotFoundError(f'there is no list of names {self.ann_file} (ann_file)')
        samples = super().load_data_list()
        if not samples:
            self._raise_no_images(images)
        if annotations is not None:
            self._require_pairs(samples, images, annotations)
            self._require_label_maps(samples)
        return [dict(sample, num_classes=len(self._metainfo['classes'])) for sample in samples]

    def _raise_no_images(self, folder: str) -> None:
        if self.ann_file:
            raise FileNotFoundError(f'{self.ann_file} names no image')
        others = _suffixes(_files(folder)).most_common(5)
        if not others:
            raise FileNotFoundError(f'{folder} has no image in it')
        found = ', '.join(f'{count} *{name}' for name, count in others)
        raise FileNotFoundError(
            f'{folder} has no image *{self.img_suffix}, but {found}: set img_suffix (--cfg-options '
            f'train_dataloader.dataset.img_suffix={others[0][0]}, and those of val_ and test_dataloader)'
        )

    def _require_pairs(self, samples: list[dict], images: str, annotations: str) -> None:
        """Require a label map for each image, and none that belongs to an image of another suffix."""
        present = _files(annotations)
        expected = {osp.relpath(sample['seg_map_path'], annotations) for sample in samples}
        if missing := expected - present:
            hint = ''
            if others := _suffixes(name for name in present if not name.endswith(self.seg_map_suffix)):
                hint = f'. There are *{", *".join(others)}: is seg_map_suffix right?'
            elif present:
                hint = f'. There is {min(present)}, for example: images and label maps need the same names'
            raise FileNotFoundError(
                f'{annotations} lacks the label maps of {len(missing)} of {len(samples)} images: '
                f'{listed(sorted(missing))}{hint}'
            )
        if self.ann_file:
            return
        stems = {name.removesuffix(self.seg_map_suffix) for name in present - expected}
        if unread := [name for name in _files(images) if osp.splitext(name)[0] in stems]:
            raise ValueError(
                f'{len(unread)} images in {images} with label maps do not end with {self.img_suffix!r} and '
                f'would be left out: {listed(sorted(unread))}. Give all images one suffix (img_suffix)'
            )

    def _require_label_maps(self, samples: list[dict]) -> None:
        """Decode a few label maps, more until there are two classes, to find mistakes made in all of them."""
        few, many = (np.linspace(0, len(samples) - 1, count).astype(int) for count in (SAMPLE, LARGE_SAMPLE))
        places, found = dict.fromkeys([*few, *many]), set[int]()
        for number, place in enumerate(places):
            if number >= SAMPLE and len(found - {self.ignore_index}) > 1:
                return
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
            why = f'nothing but 1, beside {ignored}, which are ignored. {advice}'
            if not self.reduce_zero_label:
                why = f'nothing but 0 and {ignored}, and {ignored} is ignored. Replace {ignored} by 1'
            raise LabelMapError(f'{which} hold {why}')
        only = self._metainfo['classes'][min(found - {self.ignore_index})]
        told = f'{which} have one class alone, {only!r}: a model that learns from them finds it everywhere'
        print_log(told, 'current', logging.WARNING)

    def _labels(self, sample: dict) -> set[int]:
        """Return the labels in a sample's label map, as the model gets them."""
        sample = dict(sample, seg_fields=[], num_classes=len(self._metainfo['classes']))
        path = sample['seg_map_path']
        with unreadable_files_named(sample['img_path'], path):
            with Image.open(path) as opened:
                if opened.mode.startswith('I'):
                    raise LabelMapError(
                        f'{path} has more than 8 bits a pixel, which mmseg cuts off: save it with 8'
                    )
                sample['ori_shape'] = opened.size[::-1]  # its image's size is compared when it is read
            checked = CheckLabelMap(self.ignore_index)(LoadAnnotations()(sample))
        return set(np.unique(checked['gt_seg_map']).tolist())


def _files(folder: str) -> set[str]:
    return set(find_images(folder, ('',)).paths)


def _suffixes(names: Iterable[str]) -> Counter[str]:
    """Count image files by ending."""
    endings = (osp.splitext(name)[1] for name in names)
    return Counter(ending for ending in endings if ending.lower() in ENDINGS)
