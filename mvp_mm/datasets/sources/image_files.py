"""Which files are images: the one search below a folder of every dataset and command, and lists."""

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from PIL import features

from ...wording import counted

# Lower-case endings of the formats that Pillow reads and people keep photographs in.
ENDINGS: tuple[str, ...] = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.mpo', '.png', '.apng', '.webp', '.gif', '.bmp', '.dib', '.tif'),
    *('.tiff', '.jp2', '.j2k', '.jpx', '.ppm', '.pgm', '.pbm', '.pnm', '.tga'),
    *(('.avif',) if 'avif' in features.modules and features.check('avif') else ()),  # since Pillow 11.3
)
# Folders that systems make beside images, with copies of them: macOS in archives, Synology for thumbnails,
# Windows for deleted files.
SKIPPED = ('__macosx', '@eadir', '$recycle.bin')
LOOKED_AT = 8  # paths of a list, to see whether they lead anywhere


@dataclass
class FoundImages:
    """Result of :func:`find_images`."""

    paths: list[str] = field(default_factory=list)  # relative to the folder, sorted
    broken_links: list[str] = field(default_factory=list)  # those that are links that lead nowhere
    left_out: Counter = field(default_factory=Counter)  # number of other files, by lower-case ending
    unreadable_folders: dict[str, str] = field(default_factory=dict)  # by path: why its files are missing

    @property
    def note(self) -> str:
        """End of a line of the log, such as ``'; left out: 3 .txt, 1 .heic'``, or empty."""
        endings = [f'{n} {ending or "without an ending"}' for ending, n in self.left_out.most_common()]
        return f'; left out: {", ".join(endings)}' if endings else ''

    def require_links(self, folder: str | os.PathLike) -> None:
        """Raise FileNotFoundError if a link leads nowhere: for datasets that cannot replace an image."""
        if self.broken_links:
            raise FileNotFoundError(
                f'{folder} has {counted(len(self.broken_links), "link")} to images that are gone, such as '
                f'{self.broken_links[0]}: bring the images back, or delete the links'
            )


def find_images(folder: str | os.PathLike, endings: Sequence[str] = ENDINGS) -> FoundImages:
    """Find every image at any depth below a folder.

    Hidden files and folders, and those of ``SKIPPED``, are passed over; ``folder`` itself may be one. Links
    are followed, but not to a folder above, and each real folder is read once: under its own name if it has
    one below ``folder``. ``endings`` match in capitals or not.

    Raises:
        OSError: If the folder itself cannot be listed; one below it is left out with a warning.
    """
    folder, endings = os.fspath(folder), tuple(ending.lower() for ending in endings)
    found, root, seen = FoundImages(), Path(os.path.realpath(folder)), set[str]()
    folders, links = [''], list[str]()
    while folders or links:
        place = folders.pop() if folders else links.pop(0)
        path = os.path.join(folder, place)
        real = os.path.realpath(path)
        if real in seen or (place and root.is_relative_to(real)):
            continue
        seen.add(real)
        try:
            entries = _visible(path)
        except OSError as error:
            if not place:
                raise
            found.unreadable_folders[path] = str(error)
            print_log(f'The images of a folder are left out: {error}', 'current', level=logging.WARNING)
            continue
        for entry in entries:
            name = os.path.join(place, entry.name)
            is_broken = entry.is_symlink() and not os.path.exists(entry.path)
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(name)
            elif entry.name.lower().endswith(endings) and (is_broken or entry.is_file()):
                found.paths.append(name)
                found.broken_links += [name] if is_broken else []
            else:
                found.left_out[os.path.splitext(entry.name)[1].lower()] += 1
    found.paths.sort()
    return found


def sub_folders(folder: str | os.PathLike) -> list[str]:
    """Names of the folders directly below a folder, sorted, by the rules of :func:`find_images`."""
    root, names = Path(os.path.realpath(folder)), dict[str, str]()
    for entry in sorted(filter(_is_folder, _visible(folder)), key=os.DirEntry.is_symlink):  # real ones first
        real = os.path.realpath(entry.path)
        if not root.is_relative_to(real):
            names.setdefault(real, entry.name)
    return sorted(names.values())


def is_hidden(name: str) -> bool:
    """Whether the search passes over a file or folder of this name."""
    return name.startswith('.') or name.lower() in SKIPPED


def read_lines(path: str | os.PathLike) -> list[str]:
    """Read the stripped, non-empty lines of a UTF-8 file with any line ends; a byte-order mark is dropped."""
    content = Path(path).read_bytes()
    reason = 'it looks like UTF-16, as PowerShell writes' if b'\0' in content else None
    try:
        text = content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        reason = reason or str(error)
    if reason:
        raise ValueError(f'{path} is no list in UTF-8 ({reason}): save it as UTF-8 text, one image a line')
    return [line.strip() for line in re.split(r'[\r\n]+', text) if line.strip()]


def require_listed(listing: str, paths: Sequence[str], folder: str | os.PathLike) -> None:
    """Require that some of a few paths of a list, joined with its folder, exist, and all with a backslash."""
    for path in paths:
        if '\\' in path and not os.path.exists(path):
            raise missing_image(path, listing)
    places = np.unique(np.linspace(0, len(paths) - 1, LOOKED_AT).astype(int))
    if paths and not any(os.path.lexists(paths[place]) for place in places):
        raise FileNotFoundError(
            f'{missing_image(paths[0], listing)}, nor any other that was looked at: expected paths relative '
            f'to {folder}, or absolute ones'
        )


def missing_image(path: str, listing: str) -> FileNotFoundError:
    """Return the error for a path of a list."""
    hint = ': write paths with / in between, not backslashes' if '\\' in path else ''
    return FileNotFoundError(f'there is no image {path}, which {listing} names{hint}')


def _visible(folder: str | os.PathLike) -> list[os.DirEntry[str]]:
    with os.scandir(os.fspath(folder)) as entries:
        return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # a link to itself
        return entry.is_dir()
    return False
