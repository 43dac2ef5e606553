"""Count ImageNet-1K (ILSVRC 2012) in a folder. Its download needs a login, so nothing is downloaded here."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from tqdm.contrib.concurrent import thread_map

from ...wording import listed
from ..sources.image_files import ENDINGS, is_hidden

CLASSES = 1_000
COUNTS = dict(train=1_281_167, val=50_000)
WNID = re.compile(r'n\d{8}')
UNPACK = 'torchvision.datasets.ImageNet(ROOT, SPLIT) unpacks and sorts the archives of image-net.org'


def check_imagenet(
    root: Path, classes: int = CLASSES, counts: Mapping[str, int] = COUNTS, progress: bool = False
) -> list[str]:
    """Compare the numbers of ``ROOT/{train,val}/<wnid>/*.JPEG``; return a sentence for each fault."""
    if not root.is_dir():
        return [f'{root} is no folder: expected one with train/ and val/ in it']
    if not any((root / split).is_dir() for split in counts):
        inside = listed(sorted(os.listdir(root))) or 'nothing'
        return [f'{root} has neither train nor val: expected both, found {inside}. {UNPACK}']
    problems: list[str] = []
    found: dict[str, set[str]] = {}
    for split, expected in counts.items():
        folder = root / split
        if not folder.is_dir():
            problems.append(f'{folder} is missing. {UNPACK}')
            continue
        entries = {path.name for path in folder.iterdir() if not is_hidden(path.name)}
        wnids = sorted(name for name in entries if WNID.fullmatch(name) and (folder / name).is_dir())
        if others := entries.difference(wnids):
            problems.append(
                f'{folder} holds {len(others):,} others than folders named by a wnid, such as n01440764: '
                f'{listed(sorted(others))}; such a folder would be taken for a class. {UNPACK}'
            )
        folders = [folder / wnid for wnid in wnids]
        bar = dict(desc=f'Counting {split}', leave=False, disable=not progress)
        numbers = thread_map(_count, folders, max_workers=16, **bar)  # on network storage, they mostly wait
        images = dict(zip(wnids, numbers, strict=True))
        found[split] = set(wnids)
        smallest = min(wnids, key=lambda wnid: images[wnid], default='none')
        note = f'; the smallest class is {smallest} with {images.get(smallest, 0):,}'
        counted = (len(wnids), 'class folders', classes, ''), (sum(images.values()), 'images', expected, note)
        for number, what, wanted, more in counted:
            if number != wanted:
                difference = f'{abs(wanted - number):,} {"missing" if number < wanted else "too many"}'
                problems.append(f'{split}: {number:,} {what}, expected {wanted:,}: {difference}{more}')
    for split, names in found.items():
        elsewhere = set().union(*(found[other] for other in found if other != split))
        if elsewhere and (only := names - elsewhere):
            problems.append(f'{len(only):,} classes are in {split} only: {listed(sorted(only))}')
    return problems


def _count(folder: Path) -> int:
    return sum(name.lower().endswith(ENDINGS) and not is_hidden(name) for name in os.listdir(folder))
