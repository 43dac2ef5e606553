"""Image files with captions, from a list or from texts beside them."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS

from ...text.decode import decode_text
from .caption_lists import ENDINGS, Entry, Keys, read_list
from .captioned_source import CaptionedSource, lines_of
from .image_files import find_images, require_listed, sub_folders
from .shard_index import label_of


@DATASETS.register_module()
class ImageTextList(CaptionedSource):
    """Image files with one caption or several, of which one is drawn by (seed, epoch, index).

    Args:
        data_root: Folder of the images, or a list, which is then relative to its own folder.
        split: Sub-folder of ``data_root`` to read if it exists. Default ``'train'``.
        ann_file: List of images with captions: CSV, TSV (both with a first line of names), JSON Lines, JSON
            (rows, or COCO's captions) or Parquet (if pyarrow is installed), by its ending. Paths are
            absolute or relative to that folder. Rows of the same image are several captions of it.
            Default ``''``: search the folder; the captions of ``a.jpg`` are the lines of ``a.txt``, and its
            class number is in ``a.cls``, as shards have them that were unpacked.
        image_key: Column of the paths. Default None: ``image``, ``filepath``, ``file_name``, ...
        caption_key: Column of the captions, text or a list. Default None: ``caption``, ``text``, ...
        label_key: Column of class numbers. Default None: no labels.
        encoding: Of the list. Default None: by its byte-order mark, or else UTF-8.
        split_lines: Take each line of a text file as a caption. Default True; False: join them.
        class_folders: Take the sorted sub-folders as the classes: ``gt_label`` is the number of an image's,
            and their names are ``classes``, unless others are given. Default False.
        **kwargs: Arguments of :class:`.CaptionedSource`.

    Raises:
        FileNotFoundError: If there is no such folder or list, or no image in it.
        ValueError: If the list cannot be read, or the folders are no classes.
    """

    def __init__(
        self,
        data_root: str = '',
        split: str = 'train',
        ann_file: str = '',
        image_key: str | None = None,
        caption_key: str | None = None,
        label_key: str | None = None,
        encoding: str | None = None,
        split_lines: bool = True,
        class_folders: bool = False,
        **kwargs: Any,
    ) -> None:
        root = Path(data_root).expanduser()
        if not ann_file and root.is_file():
            ann_file, root = str(root), root.parent
        if not root.is_dir():
            raise FileNotFoundError(
                f'there is no folder or list {root}. Give a folder of images, or a list '
                f'({", ".join(ENDINGS)}) as data_root, or the list as ann_file and the folder of its '
                'images as data_root'
            )
        folder = root / split if split and (root / split).is_dir() else root
        names = sub_folders(folder) if class_folders and not ann_file else []
        super().__init__(**{**(dict(classes=names) if names else {}), **kwargs})
        if class_folders and (not names or len(self.classes or ()) != len(names)):
            raise ValueError(
                f'class_folders=True: {ann_file or folder} has {len(names)} sub-folders, expected one for '
                f'each of {len(self.classes) if self.classes else "the"} classes'
            )
        if ann_file:
            listing = Path(ann_file).expanduser()
            if not listing.is_file():
                raise FileNotFoundError(f'there is no list {listing}, which ann_file names')
            entries = read_list(listing, Keys(image_key, caption_key, label_key), encoding)
        else:
            entries = _beside(folder, split_lines, names)
        self._fill(entries)
        if not len(self):
            wanted = 'image with a caption' if self.require_caption else 'image'
            note = f' ({self._without:,} without a caption)' if self._without else ''
            raise FileNotFoundError(f'no {wanted} found in {ann_file or folder}{note}')
        if ann_file:
            places = dict.fromkeys(np.linspace(0, len(self) - 1, 8).astype(int).tolist())
            require_listed(ann_file, [os.path.join(folder, self._paths[place]) for place in places], folder)
        self.folder = str(folder)
        print_log(f'{type(self).__name__}: {self.captions_note()}; {ann_file or folder}', 'current')

    def _fill(self, entries: Iterator[Entry]) -> None:
        """Join the entries of each image; count captions that are missing."""
        found, labels = defaultdict[str, list[str]](list), dict[str, int]()
        for image, captions, label in entries:
            texts = [caption for caption in captions if caption]
            self._empty += len(captions) - len(texts)
            found[image] += texts
            labels[image] = -1 if label is None else label
        named = {image for image, label in labels.items() if label >= 0 and self.classes is not None}
        missing = [image for image, texts in found.items() if not texts and image not in named]
        self._without = len(missing)
        if self.require_caption:
            for image in missing:
                del found[image], labels[image]
        self._paths = PackedStrings(found)
        self._texts = PackedStrings(text for texts in found.values() for text in texts)
        self._ends = np.cumsum([0, *map(len, found.values())])
        self._labels = np.array([*labels.values()], np.int32)

    def __len__(self) -> int:
        return len(self._paths)

    def record(self, index: int) -> tuple[str, str, list[str], int | None]:
        path = os.path.join(self.folder, self._paths[index])
        label = int(self._labels[index])
        texts = self._texts[self._ends[index] : self._ends[index + 1]]
        return path, path, texts, None if label < 0 else label

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the label of a sample in a list, without reading it."""
        return [int(self._labels[int(idx)])]


def _beside(folder: Path, split_lines: bool, classes: list[str]) -> Iterator[Entry]:
    """Yield the images below a folder, with the texts beside them and the numbers of their classes."""
    found, labels = find_images(folder), {name: number for number, name in enumerate(classes)}
    for path in found.paths:
        stem, name, captions = folder / os.path.splitext(path)[0], path.split(os.sep)[0], list[str]()
        if found.left_out['.txt'] and (text := Path(f'{stem}.txt')).is_file():
            captions = lines_of(decode_text(text.read_bytes()), split_lines) or ['']
        if classes and name not in labels:
            raise ValueError(f'class_folders=True: the image {folder / path} is in no folder of a class')
        label = labels.get(name)
        if not classes and found.left_out['.cls'] and (number := Path(f'{stem}.cls')).is_file():
            try:
                label = label_of(number.read_bytes())
            except ValueError as error:
                raise ValueError(f'{number}: {error}') from error
        yield path, captions, label


class PackedStrings:
    """Read-only strings as one array of bytes: a list of them would be copied into each loader worker.

    Args:
        strings: Any number of them.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        content, ends = bytearray(), [0]
        for string in strings:
            content += string.encode('utf-8', 'surrogateescape')  # file names may hold any bytes
            ends.append(len(content))
        self._content, self._ends = np.frombuffer(bytes(content), np.uint8), np.array(ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f'there are {len(self)} strings')
        start, end = self._ends[index : index + 2]
        return self._content[start:end].tobytes().decode('utf-8', 'surrogateescape')
