"""Which files below a folder are images: the one search of every dataset and command."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mmengine.logging import print_log
from PIL import features

# Lower-case endings of the formats that Pillow reads and people keep photographs in.
ENDINGS: tuple[str, ...] = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.mpo', '.png', '.apng', '.webp', '.gif', '.bmp', '.dib', '.tif'),
    *('.tiff', '.jp2', '.j2k', '.jpx', '.ppm', '.pgm', '.pbm', '.pnm', '.tga'),
    *(('.avif',) if 'avif' in features.modules and features.check('avif') else ()),  # since Pillow 11.3
)
# Folders that systems make beside images, with copies of them: macOS in archives, Synology for thumbnails,
# Windows for deleted files.
SKIPPED = ('__macosx', '@eadir', '$recycle.bin')


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
        counted = [f'{n} {ending or "without an ending"}' for ending, n in self.left_out.most_common()]
        return f'; left out: {", ".join(counted)}' if counted else ''

    def require_links(self, folder: str | os.PathLike) -> None:
        """Raise FileNotFoundError if a link leads nowhere: for datasets that cannot replace an image."""
        if self.broken_links:
            raise FileNotFoundError(
                f'{len(self.broken_links)} images in {folder} are links that lead nowhere, such as '
                f'{self.broken_links[0]}: bring back what they point to, or delete them'
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
    found, root = FoundImages(), os.path.realpath(folder)
    seen: set[str] = set()
    folders, links = [''], list[str]()
    while folders or links:
        place = folders.pop() if folders else links.pop(0)
        path = os.path.join(folder, place)
        real = os.path.realpath(path)
        if real in seen or (place and _is_above(real, root)):
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
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(name)
                continue
            is_broken = entry.is_symlink() and not os.path.exists(entry.path)
            if not entry.name.lower().endswith(endings) or not (is_broken or entry.is_file()):
                found.left_out[os.path.splitext(entry.name)[1].lower()] += 1
                continue
            found.paths.append(name)
            if is_broken:
                found.broken_links.append(name)
    found.paths.sort()
    return found


def sub_folders(folder: str | os.PathLike) -> list[str]:
    """Names of the folders directly below a folder, sorted, by the rules of :func:`find_images`."""
    root, names = os.path.realpath(folder), dict[str, str]()
    for entry in sorted(filter(_is_folder, _visible(folder)), key=os.DirEntry.is_symlink):  # real ones first
        real = os.path.realpath(entry.path)
        if not _is_above(real, root):
            names.setdefault(real, entry.name)
    return sorted(names.values())


def is_hidden(name: str) -> bool:
    """Whether the search passes over a file or folder of this name."""
    return name.startswith('.') or name.lower() in SKIPPED


def _visible(folder: str | os.PathLike) -> list[os.DirEntry[str]]:
    with os.scandir(os.fspath(folder)) as entries:
        visible = (entry for entry in entries if not is_hidden(entry.name))
        return sorted(visible, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_above(real: str, root: str) -> bool:
    return os.path.commonpath((real, root)) == real
