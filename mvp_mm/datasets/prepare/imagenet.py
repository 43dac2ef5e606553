"""ImageNet-1K (ILSVRC 2012): is a folder what the configs read?

Its download needs a login at image-net.org, so nothing is downloaded here.
"""

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import track

from ..sources.image_files import ENDINGS, is_hidden

CLASSES = 1_000
COUNTS = dict(train=1_281_167, val=50_000)
# Images of a class: the training set's smallest and largest class, and the validation set's only size.
PER_CLASS = dict(train=(732, 1_300), val=(50, 50))
ARCHIVES = ('.tar', '.tar.gz', '.tgz', '.zip')
WNID = re.compile(r'n\d{8}')
LISTED = 5
SEARCH_DEPTH = 3  # of Kaggle's ILSVRC/Data/CLS-LOC


def check_imagenet(
    root: Path,
    classes: int = CLASSES,
    counts: Mapping[str, int] = COUNTS,
    per_class: Mapping[str, tuple[int, int]] = PER_CLASS,
    progress: bool = False,
) -> list[str]:
    """Say what is missing or in the wrong place in an ImageNet folder, and what to do.

    Expected is ``ROOT/{train,val}/<wnid>/*.JPEG``. Files are counted, not opened.

    Args:
        root: Folder.
        classes: Number of classes. Default 1,000.
        counts: Number of images by split. Default: ImageNet-1K's.
        per_class: Smallest and largest number of images of a class by split. Default: ImageNet-1K's.
        progress: Show a progress bar on the error stream.

    Returns:
        One line for each fault; none if all is well.
    """
    if not root.is_dir():
        what = 'is a file' if root.exists() else 'does not exist'
        return [f'{root} {what}: expected a folder with train/ and val/ in it']
    if not any((root / split).is_dir() for split in counts):
        return [_lost_root(root, counts)]

    problems = []
    names: dict[str, set[str]] = {}
    for split in counts:
        folder = root / split
        if not folder.is_dir():
            problems.append(_lost_split(root, split))
            continue
        scan = _scan(folder, f'Counting {split}', progress)
        misplaced = _misplaced(root, split, scan)
        problems += misplaced
        if scan.images:
            names[split] = set(scan.images)
            problems += _miscounted(split, scan.images, classes, counts[split], per_class[split])
        elif not misplaced:
            problems.append(
                f'{folder} is empty: expected {classes:,} folders named by wnid, such as n01440764'
            )
    if len(names) == 2 and len(set(map(frozenset, names.values()))) == 2:
        problems += _differing_classes(names)
    return problems


@dataclasses.dataclass
class _Scan:
    """What lies directly in a split's folder."""

    folder: Path
    images: dict[str, int]  # by class
    inner: dict[str, str]  # classes without an image that hold another folder: the name of that
    other_folders: list[str]
    archives: list[str]
    loose_images: list[str]


def _scan(folder: Path, title: str, progress: bool) -> _Scan:
    scan = _Scan(folder, {}, {}, [], [], [])
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if WNID.fullmatch(entry.name):
                    scan.images[entry.name] = 0
                else:
                    scan.other_folders.append(entry.name)
            elif entry.name.lower().endswith(ARCHIVES):
                scan.archives.append(entry.name)
            elif _is_image(entry.name):
                scan.loose_images.append(entry.name)
    for found in (scan.other_folders, scan.archives, scan.loose_images):
        found.sort()
    wnids = sorted(scan.images)
    with ThreadPoolExecutor(16) as pool:  # on network storage, the time goes into waiting
        counted = pool.map(lambda wnid: _count(folder / wnid), wnids)
        console = Console(stderr=True)
        shown = track(counted, title, len(wnids), console=console, disable=not progress, transient=True)
        for wnid, (images, inner) in zip(wnids, shown, strict=True):
            scan.images[wnid] = images
            if not images and inner:
                scan.inner[wnid] = inner
    return scan


def _count(folder: Path) -> tuple[int, str]:
    """Number of images in a folder, and the name of a folder in it, if any."""
    images, inner = 0, ''
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_image(entry.name):
                images += 1
            elif entry.is_dir():
                inner = entry.name
    return images, inner


def _lost_root(root: Path, splits: Iterable[str]) -> str:
    """Why there is neither train nor val in the folder."""
    names = sorted(path.name for path in root.iterdir())
    if any(WNID.fullmatch(name) and (root / name).is_dir() for name in names):
        return (
            f'{root} itself holds class folders: it looks like one split. Give the folder above it, and name '
            'this one train or val'
        )
    for depth in range(1, SEARCH_DEPTH + 1):
        for folder in sorted(root.glob('/'.join('*' * depth))):
            if all((folder / split).is_dir() for split in splits):
                return f'{root} has train and val deeper inside: give {folder} instead'
    archives = [name for name in names if name.lower().endswith(ARCHIVES)]
    if archives:
        return f'{root} holds archives that are not unpacked: {_first(archives)}. {_how_to_unpack(root)}'
    found = _first(names) if names else 'nothing'
    return f'{root} has neither train nor val: expected both, found {found}'


def _lost_split(root: Path, split: str) -> str:
    archives = sorted(path.name for path in root.glob(f'*{split}*') if path.name.lower().endswith(ARCHIVES))
    if archives:
        return f'{root / split} is missing, but {archives[0]} is there, not unpacked. {_how_to_unpack(root)}'
    similar = [name for name in ('validation', 'valid', 'training') if name.startswith(split)]
    for name in similar:
        if (root / name).is_dir():
            return f'{root / split} is missing, but {root / name} is there: rename it to {split}'
    return f'{root / split} is missing: download that part from image-net.org (needs a login)'


def _misplaced(root: Path, split: str, scan: _Scan) -> list[str]:
    """Faults of place: what is there, but not where it is looked for."""
    folder, problems = scan.folder, []
    nested = [
        name
        for name in scan.other_folders
        if any(WNID.fullmatch(child.name) and child.is_dir() for child in (folder / name).iterdir())
    ]
    for name in nested:
        problems.append(f'{folder / name} holds class folders one level too deep: move them up into {folder}')
    strange = [name for name in scan.other_folders if name not in nested]
    if strange:
        problems.append(
            f'{folder} has {len(strange):,} folders not named by a wnid (n and eight digits), each of which '
            f'would be taken for a class and shift the labels: {_first(strange)}. Move them away'
        )
    if scan.archives:
        problems.append(
            f'{folder} has {len(scan.archives):,} archives that are not unpacked: {_first(scan.archives)}. '
            + (_how_to_unpack_classes(folder) if WNID.match(scan.archives[0]) else _how_to_unpack(root))
        )
    if scan.loose_images:
        problems.append(
            f'{folder} is flat: {len(scan.loose_images):,} images lie directly in it '
            f'({_first(scan.loose_images)}), which says nothing of their class. {_how_to_sort(root, split)}'
        )
    if scan.inner:
        wnid, inner = next(iter(scan.inner.items()))
        problems.append(
            f'{folder}: {len(scan.inner):,} class folders hold another folder instead of images, such as '
            f'{wnid}/{inner}: move the images up into {wnid}'
        )
    return problems


def _miscounted(
    split: str, images: Mapping[str, int], classes: int, expected: int, sizes: tuple[int, int]
) -> list[str]:
    """Faults of number."""
    problems = []
    if len(images) != classes:
        kind = 'missing' if len(images) < classes else 'too many'
        difference = abs(classes - len(images))
        problems.append(
            f'{split}: {len(images):,} class folders, expected {classes:,}: {difference:,} {kind}'
        )
    total = sum(images.values())
    if total == expected:
        return problems
    line = f'{split}: {total:,} images, expected {expected:,}: '
    line += f'{expected - total:,} missing' if total < expected else f'{total - expected:,} too many'
    empty = sorted(wnid for wnid, count in images.items() if count == 0)
    short = sorted(wnid for wnid, count in images.items() if 0 < count < sizes[0])
    large = sorted(wnid for wnid, count in images.items() if count > sizes[1])
    if empty:
        line += f'; {len(empty):,} empty classes: {_first(empty)}'
    if short:
        counted = [f'{wnid} ({images[wnid]})' for wnid in short]
        line += f'; {len(short):,} classes with fewer than {sizes[0]:,}: {_first(counted)}'
    if large:
        counted = [f'{wnid} ({images[wnid]})' for wnid in large]
        line += f'; {len(large):,} classes with more than {sizes[1]:,}: {_first(counted)}'
    problems.append(f'{line}. {"Unpack these again" if total < expected else "Remove what was added"}')
    return problems


def _differing_classes(names: Mapping[str, set[str]]) -> list[str]:
    (first, own), (second, others) = names.items()
    problems = []
    for where, only in ((first, own - others), (second, others - own)):
        if only:
            problems.append(f'{len(only):,} classes are in {where} only: {_first(sorted(only))}')
    return problems


def _how_to_unpack(root: Path) -> str:
    return (
        'With ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz in '
        f'{root}, torchvision unpacks and sorts them: python -c "from torchvision.datasets import ImageNet; '
        f"[ImageNet({str(root)!r}, split) for split in ('train', 'val')]\""
    )


def _how_to_unpack_classes(folder: Path) -> str:
    return (
        f'Unpack each into its own folder: cd {folder} && for f in n*.tar; do mkdir -p "${{f%.tar}}" && '
        'tar -xf "$f" -C "${f%.tar}" && rm "$f"; done'
    )


def _how_to_sort(root: Path, split: str) -> str:
    if split != 'val':
        return 'Sort them into folders named by wnid, the part of each name before the underscore'
    return (
        'Sort them into folders named by wnid with the ground truth of ILSVRC2012_devkit_t12.tar.gz: move '
        f'the folder away, put the kit and ILSVRC2012_img_val.tar into {root} and call '
        f'python -c "from torchvision.datasets import ImageNet; ImageNet({str(root)!r}, \'val\')"'
    )


def _is_image(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and not is_hidden(name)


def _first(names: Sequence[str]) -> str:
    return ', '.join(names[:LISTED]) + (f' and {len(names) - LISTED:,} more' if len(names) > LISTED else '')
