"""Count ImageNet-1K (ILSVRC 2012) in a folder. Its download needs a login, so nothing is downloaded here."""

import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from ..sources.image_files import ENDINGS, is_hidden

CLASSES = 1_000
COUNTS = dict(train=1_281_167, val=50_000)
WNID = re.compile(r'n\d{8}')
LISTED = 5
UNPACK = 'torchvision.datasets.ImageNet(ROOT, SPLIT) unpacks and sorts the archives of image-net.org'


def check_imagenet(
    root: Path, classes: int = CLASSES, counts: Mapping[str, int] = COUNTS, progress: bool = False
) -> list[str]:
    """Compare a folder with ``ROOT/{train,val}/<wnid>/*.JPEG`` by numbers; files are counted, not opened.

    Args:
        root: Folder.
        classes: Number of classes. Default 1,000.
        counts: Number of images by split. Default: ImageNet-1K's.
        progress: Show a progress bar on the error stream.

    Returns:
        One sentence for each fault; empty if all is well.
    """
    if not root.is_dir():
        return [f'{root} is no folder: expected one with train/ and val/ in it']
    if not any((root / split).is_dir() for split in counts):
        names = _first([path.name for path in root.iterdir()])
        return [f'{root} has neither train nor val: expected both, found {names}. {UNPACK}']
    problems = []
    found: dict[str, set[str]] = {}
    for split, expected in counts.items():
        folder = root / split
        if not folder.is_dir():
            problems.append(f'{folder} is missing. {UNPACK}')
            continue
        entries = [path for path in folder.iterdir() if not is_hidden(path.name)]
        folders = [path for path in entries if WNID.fullmatch(path.name) and path.is_dir()]
        if others := {path.name for path in entries} - {path.name for path in folders}:
            problems.append(
                f'{folder} holds {len(others):,} others than folders named by a wnid, such as n01440764: '
                f'{_first(others)}; such a folder would be taken for a class. {UNPACK}'
            )
        with ThreadPoolExecutor(16) as pool:  # on network storage, the time goes into waiting
            counts_here = pool.map(_count, folders)
            counted = tqdm(counts_here, f'Counting {split}', len(folders), leave=False, disable=not progress)
            images = dict(zip((path.name for path in folders), counted, strict=True))
        found[split] = set(images)
        problems += _difference(f'{split}: {len(images):,} class folders', len(images), classes)
        smallest = min(images, key=lambda wnid: (images[wnid], wnid), default='none')
        note = f'; the smallest class is {smallest} with {images.get(smallest, 0):,}'
        total = sum(images.values())
        problems += _difference(f'{split}: {total:,} images', total, expected, note)
    for split, wnids in found.items():
        elsewhere = set().union(*(found[other] for other in found if other != split))
        if elsewhere and (only := wnids - elsewhere):
            problems.append(f'{len(only):,} classes are in {split} only: {_first(only)}')
    return problems


def _count(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(entry.name.lower().endswith(ENDINGS) and not is_hidden(entry.name) for entry in entries)


def _difference(what: str, found: int, expected: int, note: str = '') -> list[str]:
    if found == expected:
        return []
    return [
        f'{what}, expected {expected:,}: {abs(expected - found):,} '
        f'{"missing" if found < expected else "too many"}{note}'
    ]


def _first(names: set[str] | list[str]) -> str:
    more = f' and {len(names) - LISTED:,} more' if len(names) > LISTED else ''
    return ', '.join(sorted(names)[:LISTED]) + more or 'nothing'
