"""Text files that list images, one a line."""

import os
import re
from collections.abc import Iterable, Sequence

import numpy as np

LOOKED_AT = 8  # paths of a list, to see whether they lead anywhere


def read_lines(path: str | os.PathLike) -> list[str]:
    """Read the stripped, non-empty lines of a UTF-8 file with any line ends; a byte-order mark is dropped."""
    with open(path, 'rb') as file:
        content = file.read()
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


def listed(names: Iterable[str]) -> str:
    """Name the first five, and how many there are if there are more."""
    names = sorted(names)
    return ', '.join(names[:5]) + (f', ... ({len(names)})' if len(names) > 5 else '')


def missing_image(path: str, listing: str) -> FileNotFoundError:
    """Return the error for a path of a list."""
    hint = ': write paths with / in between, not backslashes' if '\\' in path else ''
    return FileNotFoundError(f'there is no image {path}, which {listing} names{hint}')
