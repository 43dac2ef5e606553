"""Pairs of images and label maps in two folders."""

import os.path as osp

from mmengine.logging import print_log

from .image_files import find_images
from .name_list import read_lines
from .seeded_files import SeededFiles


class SegmentationFiles(SeededFiles):
    """A mixin for mmseg's datasets of files that finds them as :func:`.find_images` does.

    ``img_suffix`` and ``seg_map_suffix`` match in capitals or not. ``ann_file`` lists names without suffix,
    one a line.
    """

    def load_data_list(self) -> list[dict]:
        """The samples, sorted by image, or in the order of ``ann_file``."""
        images, label_maps = self.data_prefix['img_path'], self.data_prefix.get('seg_map_path')
        note = ''
        if self.ann_file:
            names = [
                line.removesuffix(self.img_suffix) + self.img_suffix for line in read_lines(self.ann_file)
            ]
            self._require_listed(images, names)
        else:
            found = find_images(images, (self.img_suffix,))
            found.require_links(images)
            self.left_out, self.unreadable_folders = found.left_out, found.unreadable_folders
            names, note = found.paths, found.note
        print_log(f'{type(self).__name__}: {len(names)} images in {images}{note}', 'current')
        maps = {} if label_maps is None else self._label_maps(label_maps)
        common = dict(label_map=self.label_map, reduce_zero_label=self.reduce_zero_label)
        data_list = []
        for name in names:
            sample = dict(img_path=osp.join(images, name), **common, seg_fields=[])
            if label_maps is not None:
                stem = name[: len(name) - len(self.img_suffix)]
                sample['seg_map_path'] = osp.join(label_maps, maps.get(stem, stem + self.seg_map_suffix))
            data_list.append(sample)
        return data_list

    def _label_maps(self, folder: str) -> dict[str, str]:
        """By the name without suffix."""
        end = -len(self.seg_map_suffix) or None
        return {name[:end]: name for name in find_images(folder, (self.seg_map_suffix,)).paths}

    def _require_listed(self, images: str, names: list[str]) -> None:
        for name in names:
            path = osp.join(images, name)
            if not osp.isfile(path):
                hint = ': write paths with / in between, not backslashes' if '\\' in name else ''
                raise FileNotFoundError(f'there is no image {path}, which {self.ann_file} names{hint}')
