"""Unpack an archive that may be broken or hostile, all of it or nothing."""

import errno
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import TypeVar

from tqdm import tqdm

from ...wording import listed

MAX_RATIO = 100  # of unpacked to packed: photographs hardly shrink, a bomb starts at about 1,000
BLOCK = 4096  # bytes that any file takes on a disk, so that a million empty ones count
BELOW_A_FILE = (FileExistsError, NotADirectoryError)  # of an entry whose folder is a file
BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, *BELOW_A_FILE)
Member = TypeVar('Member', zipfile.ZipInfo, tarfile.TarInfo)


def unpack_archive(
    archive: Path,
    target: Path,
    inside: str = '',
    max_bytes: int = 64 << 30,
    check: Callable[[Path], None] | None = None,
    progress: bool = True,
) -> None:
    """Unpack a zip or tar file into a new folder, which gets its name in one step, or nothing is left.

    Of the archive only the folder ``inside`` is kept. Its unpacked size may be ``max_bytes``, and 100 times
    its own. ``check`` is called with the unpacked folder before it gets its name; it raises to refuse it.

    Raises:
        OSError: If there is no such archive, the target exists, or the disk is full.
        ValueError: If the archive is none, is damaged or too large, or has an unsafe entry; names the entry.
    """
    require_archive(archive)
    if target.exists() or target.is_symlink():
        raise FileExistsError(f'{target} exists already: move it away, or choose another folder')
    scratch = target.with_name(f'.{target.name}.unpacking')
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
    scratch.mkdir(parents=True)
    try:
        _extract(archive, scratch, min(max_bytes, MAX_RATIO * archive.stat().st_size), progress)
        result = scratch / inside
        if not result.is_dir():
            found = listed(sorted(os.listdir(scratch))) or 'nothing'
            raise ValueError(f'{archive} has no folder {inside}: expected one, found {found}')
        if check is not None:
            check(result)
        result.rename(target)
    except BROKEN as error:
        raise ValueError(f'{archive} is damaged ({error}): download it again') from error
    except RuntimeError as error:  # encrypted, or a compression that is not supported
        raise ValueError(f'{archive} is packed in a way that Python cannot read ({error})') from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = f'the disk is full while unpacking {archive}. Free some space and call again'
        raise OSError(error.errno, reason) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def require_archive(path: Path) -> None:
    """Raise ValueError unless a file is a whole zip or a tar file, saying what it looks like instead."""
    if not path.is_file():
        raise FileNotFoundError(f'there is no archive {path}')
    if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        return
    with path.open('rb') as file:
        start = file.read(512)
    found = f'a file that starts with {start[:16]!r}' if start else 'an empty file'
    if start.startswith(b'PK'):
        found = 'a zip file without its end: download it again'
    elif re.match(rb'\s*<(!doctype|html|\?xml)', start, re.IGNORECASE):
        found = 'a web page (an error message, or a login?)'
    raise ValueError(f'{path.name} is no archive: expected a zip or tar file, found {found}')


def _extract(archive: Path, folder: Path, max_bytes: float, progress: bool) -> None:
    bar = partial(tqdm, desc=f'Unpacking {archive.name}', disable=not progress)
    if tarfile.is_tarfile(archive):
        if not hasattr(tarfile, 'data_filter'):
            raise ValueError(f'this Python cannot unpack {archive} safely: use 3.10.12, 3.11.4 or newer')
        with tarfile.open(archive) as tar:
            tar.extractall(folder, bar(_admitted(archive, tar, max_bytes)), filter='data')
        return
    with zipfile.ZipFile(archive) as zip_file:
        entries = list(_admitted(archive, zip_file.infolist(), max_bytes))
        if sum(entry.file_size for entry in entries) > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, 'less is free than needed')
        zip_file.extractall(folder, bar(entries))


def _admitted(archive: Path, members: Iterable[Member], max_bytes: float) -> Iterator[Member]:
    """Pass an archive's members on; raise ValueError at one that an archive of data has no reason to hold."""
    total = 0
    for member in members:
        if isinstance(member, zipfile.ZipInfo):
            # `filename` is cut at a null character; the mode is 0 where the archive was not made on Unix.
            name, size, mode = member.orig_filename, member.file_size, member.external_attr >> 16
            is_plain = stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
        else:
            name, size, is_plain = member.name, member.size, member.isfile() or member.isdir()
        path = PureWindowsPath(name)  # knows drives and backslashes as well
        fault = 'a path with ..' if '..' in path.parts else 'an absolute path' if path.anchor else ''
        if not is_plain:
            fault = 'a link or a device'
        if fault:
            raise ValueError(
                f'{archive} refused: its entry {name!r} is {fault}; expected only files and folders below '
                'the archive. Do not unpack it: get it from another source'
            )
        total += max(size, BLOCK)
        if total > max_bytes:
            raise ValueError(
                f'{archive} refused, it may be a bomb: {archive.stat().st_size:,} bytes unpack to {total:,} '
                f'or more, expected at most {max_bytes:,}. If you trust it, unpack it by hand'
            )
        yield member
