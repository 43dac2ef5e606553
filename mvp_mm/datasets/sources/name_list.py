"""Text files that list images, one a line."""

import os
import re
from collections.abc import Sequence

import numpy as np

LOOKED_AT = 8  # paths of a list, to see whether they lead anywhere


def read_lines(path: str | os.PathLike) -> list[str]:
    """Read the stripped, non-empty lines of a UTF-8 file, with or without byte-order mark and any line ends.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is something else, such as the UTF-16 that PowerShell writes.
    """
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


def require_listed(listing: str | os.PathLike, paths: Sequence[str], folder: str | os.PathLike) -> None:
    """Look at a few paths of a list, and at all with a backslash, before anything is trained on them.

    Args:
        listing: The list.
        paths: Its paths, joined with the folder.
        folder: What relative paths are relative to.

    Raises:
        FileNotFoundError: If a path with a backslash, or each of those looked at, does not exist.
    """
    for path in paths:
        if '\\' in path and not os.path.exists(path):
            raise FileNotFoundError(
                f'there is no file {path}, which {listing} names: write paths with / in between, not '
                'backslashes'
            )
    places = np.unique(np.linspace(0, len(paths) - 1, LOOKED_AT).astype(int))
    if paths and not any(os.path.lexists(paths[place]) for place in places):
        raise FileNotFoundError(
            f'there is no file {paths[0]}, which {listing} names, nor any other that was looked at: '
            f'expected paths relative to {folder}, or absolute ones'
        )
