"""Which shards an address stands for, here or elsewhere, in which state; patience with networks."""

import glob
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ...whole_file import FULL

T = TypeVar('T')
BRACES = re.compile(r'\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}')
# What tells versions of a remote file apart, in fsspec's various file systems.
VERSION_KEYS = (
    *('ETag', 'etag', 'blob_id', 'md5Hash', 'checksum', 'Content-MD5'),
    *('LastModified', 'last_modified', 'Last-Modified', 'mtime', 'created'),
)
COMPRESSED = ('tar.gz', 'tar.zst', 'tar.bz2', 'tar.xz', 'tgz')  # found to tell that they are to be unpacked
SPLITS = ('train', 'val', 'test')  # names that a folder's shards may begin with
TRIES = 3  # of what a network may fail in


def is_remote(address: str) -> bool:
    """Whether an address is none of this machine."""
    return '://' in address


def expand_braces(pattern: str) -> list[str]:
    """Expand ``{0000..0039}`` and ``{a,b}``, as bash does and webdataset reads it."""
    match = BRACES.search(pattern)
    if match is None:
        return [pattern]
    first, last, names = match.groups()
    if names is None:
        numbers = range(int(first), int(last) + 1)
        if not numbers:
            raise ValueError(f'{match[0]} in {pattern} is no range: the last number is below the first')
        choices = [f'{number:0{len(first)}d}' for number in numbers]
    else:
        choices = names.split(',')
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [whole for choice in choices for whole in expand_braces(f'{before}{choice}{after}')]


def find_shards(data_root: str | Sequence[str], split: str = '') -> list[str]:
    """Find shards: paths here, addresses of fsspec elsewhere, each once.

    Args:
        data_root: File, folder, pattern with ``*``, ``?``, ``[...]``, ``{0000..0039}`` or ``{a,b}``, or
            several of them. Of a folder: ``<split>/*.tar`` if there is such a folder, else
            ``<split>-*.tar`` if there are such files, else ``*.tar`` unless they are of other splits.
        split: See ``data_root``.

    Returns:
        In the order of the patterns, each pattern's by name.

    Raises:
        FileNotFoundError: If there is none, or not all of a range.
        ValueError: If no package is installed that reads such an address.
    """
    patterns = [data_root] if isinstance(data_root, str | os.PathLike) else data_root
    names = [name for pattern in patterns for name in _expanded(os.fspath(pattern))]
    found = {name: patiently(name, partial(_matching, os.path.expanduser(name), split)) for name in names}
    if missing := [name for name, shards in found.items() if not shards]:
        more = f', nor {len(missing) - 1} more' if len(missing) > 1 else ''
        more += f' of the split {split!r}' if split else ''
        raise FileNotFoundError(
            f'there are no shards {missing[0]}{more}. Expected tar files: a folder of them, a pattern such '
            "as 'DIR/train-*.tar' or 'DIR/train-{0000..0039}.tar' (quoted on a command line), or an "
            'address of fsspec'
        )
    return list(dict.fromkeys(shard for shards in found.values() for shard in shards))


def _expanded(pattern: str) -> list[str]:
    return [pattern] if Path(pattern).expanduser().exists() else expand_braces(pattern)


def _matching(name: str, split: str) -> list[str]:
    fs, path = url_to_fs(name)
    local = isinstance(fs, LocalFileSystem)
    has_wildcard = any(character in path for character in ('*[' if '://' in path else '*?['))  # http's ? asks
    if has_wildcard and not (local and os.path.exists(path)):
        paths = fs.glob(path)
    elif not local and path.endswith('.tar'):
        paths = [path]  # whether it is there is asked later, of many at a time
    elif fs.isdir(path):
        inside = glob.escape(path.rstrip('/'))
        patterns = [f'{inside}/{split}/*.tar', f'{inside}/{split}-*.tar'] if split else []
        others = [f'{inside}/{other}-*.tar' for other in SPLITS if split and other != split]
        if not any(fs.glob(pattern) for pattern in others):  # whose shards are of no split
            patterns += [f'{inside}/*.{ending}' for ending in ('tar', *COMPRESSED)]
        paths = next((some for pattern in patterns if (some := fs.glob(pattern))), [])
    else:
        paths = [path] if fs.exists(path) else []
    return sorted(path if local else fs.unstrip_protocol(path) for path in paths)


def remote_stamp(address: str, fresh: bool = False) -> str:
    """Return size and version of a remote shard; ``fresh``: ask again. FileNotFoundError if there is none."""

    def ask() -> dict:
        fs, path = url_to_fs(address)
        if fresh:
            fs.invalidate_cache()
        return fs.info(path)

    info = patiently(address, ask)
    if info.get('size') is None:
        raise ValueError(f'{address} cannot be cached: its server does not tell its size')
    version = next((str(info[key]) for key in VERSION_KEYS if info.get(key)), 'unknown')
    return f'{info["size"]} {version.replace(" ", "_")}'


def patiently(address: str, call: Callable[[], T]) -> T:
    """Call what a network may fail in, up to ``TRIES`` times; name the address in errors."""
    for attempt in range(1, TRIES + 1):
        try:
            with _plain_errors(address):
                return call()
        except OSError as error:
            is_final = isinstance(error, FileNotFoundError | PermissionError) or error.errno in FULL
            if is_final or attempt == TRIES or not is_remote(address):
                raise
            time.sleep(2**attempt)
    raise AssertionError('unreachable')


@contextmanager
def _plain_errors(address: str) -> Iterator[None]:
    """Turn errors of whatever library reads an address into a few kinds that name it."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f'there is no shard {address}') from error
    except OSError as error:
        kind = PermissionError if isinstance(error, PermissionError) else OSError
        number = [error.errno] if error.errno else []
        raise kind(*number, f'{address} cannot be read: {error.strerror or error}') from error
    except ImportError as error:
        raise ValueError(f'{address} cannot be read: {error}') from error
    except Exception as error:  # aiohttp's, botocore's, ... are of the network, as far as one can know
        told = f'{address} cannot be read: {type(error).__name__}: {error}'
        raise (ValueError if isinstance(error, ValueError) else OSError)(told) from error
