"""Unpack an archive that may be broken or hostile, all of it or nothing."""

import contextlib
import dataclasses
import errno
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

CHUNK_BYTES = 1 << 20
ZIP_STARTS = (b'PK\x03\x04', b'PK\x05\x06')  # of a file in it; of the end, where there is no file


@dataclasses.dataclass(frozen=True)
class UnpackLimits:
    """What an archive may at most become.

    Args:
        total_bytes: Sum of the unpacked files' sizes. Default 64 GiB.
        files: Number of entries. Default one million.
        ratio: Unpacked size by the archive's size. Photographs hardly shrink; a bomb starts at about
            1,000. Default 100.
    """

    total_bytes: int = 64 << 30
    files: int = 1_000_000
    ratio: float = 100.0


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One file or folder of an archive."""

    name: str
    size: int
    is_folder: bool
    forbidden: str  # what it is, where it is neither
    open: Callable[[], BinaryIO]


def unpack_archive(
    archive: Path,
    target: Path,
    inside: str = '',
    limits: UnpackLimits | None = None,
    check: Callable[[Path], None] | None = None,
    progress: bool = True,
) -> Path:
    """Unpack a zip or tar file into a new folder.

    Everything is first written into ``.NAME.unpacking`` beside the target, which then gets the target's
    name in one step. If anything goes wrong, or at Ctrl-C, that folder is deleted; after a crash, the next
    call deletes it.

    Args:
        archive: zip, or tar with any compression that Python knows.
        target: Folder to make; must not exist.
        inside: Folder of the archive that becomes the target; the rest is dropped. Default ``''``: all.
        limits: See :class:`UnpackLimits`. Default None: its defaults.
        check: Looks at the finished folder before it gets its name, and raises to refuse it.
        progress: Show a progress bar on the error stream.

    Returns:
        The target.

    Raises:
        FileNotFoundError: If there is no such archive.
        FileExistsError: If the target exists.
        ValueError: If the archive is none, is damaged, is larger than the limits, or has an entry that
            leads out of its folder, or is a link, a device or encrypted; names the entry.
        OSError: If the disk is full or cannot be written to.
    """
    require_archive(archive)
    if target.exists() or target.is_symlink():
        raise FileExistsError(f'{target} exists already: move it away, or choose another folder')
    scratch = target.with_name(f'.{target.name}.unpacking')
    _remove(scratch)
    try:
        scratch.mkdir(parents=True)
        _unpack_into(archive, scratch, limits or UnpackLimits(), progress)
        result = scratch / inside if inside else scratch
        if not result.is_dir():
            found = ', '.join(sorted(path.name for path in scratch.iterdir())[:10]) or 'nothing'
            raise ValueError(f'{archive} has no folder {inside}: expected one, found {found}')
        if check is not None:
            check(result)
        result.rename(target)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f'{archive} is damaged ({error}): download it again') from error
    except NotImplementedError as error:
        raise ValueError(f'{archive} is packed in a way that Python cannot read ({error})') from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f'the disk is full while unpacking {archive}. Free some space and call again'
            raise OSError(error.errno, reason) from error
        raise
    finally:
        _remove(scratch)
    return target


def require_archive(path: Path) -> None:
    """Check that a file is a whole zip or a tar file.

    Args:
        path: File.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is neither, or lacks its end; says what it looks like instead.
    """
    if not path.is_file():
        raise FileNotFoundError(f'there is no archive {path}')
    with path.open('rb') as file:
        start = file.read(512)
    if start.startswith(ZIP_STARTS):
        if not zipfile.is_zipfile(path):
            raise ValueError(f'{path.name} is a zip file without its end: download it again')
    elif not tarfile.is_tarfile(path):
        is_page = re.match(rb'\s*<(!doctype|html|\?xml)', start, re.IGNORECASE)
        found = f'a file that starts with {start[:16]!r}' if start else 'an empty file'
        if is_page:
            found = 'a web page (an error message, or a login?)'
        raise ValueError(f'{path.name} is no archive: expected a zip or tar file, found {found}')


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _unpack_into(archive: Path, folder: Path, limits: UnpackLimits, progress: bool) -> None:
    guard = _Guard(archive, limits)
    with _opened(archive) as (entries, known_total), _progress_bar(progress) as bar:
        if known_total is not None:
            guard.require_total(known_total)
            free = shutil.disk_usage(folder).free
            if known_total > free:
                raise OSError(errno.ENOSPC, f'{known_total:,} bytes needed, {free:,} free')
        task = bar.add_task(f'Unpacking {archive.name}', total=known_total)
        for entry in entries:
            path = folder.joinpath(*guard.admit(entry))
            if entry.is_folder:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with entry.open() as source, path.open('xb') as file:
                while chunk := source.read(CHUNK_BYTES):
                    guard.count(len(chunk))
                    file.write(chunk)
                    bar.advance(task, len(chunk))


class _Guard:
    """Refuses what an archive of data has no reason to hold."""

    def __init__(self, archive: Path, limits: UnpackLimits) -> None:
        self.archive = archive
        self.limits = limits
        self.most_bytes = min(limits.total_bytes, limits.ratio * archive.stat().st_size)
        self.announced = self.written = self.entries = 0
        self.files: set[tuple[str, ...]] = set()

    def admit(self, entry: _Entry) -> tuple[str, ...]:
        """The parts of an entry's path.

        Raises:
            ValueError: If the entry is refused.
        """
        name = entry.name
        parts = PurePosixPath(name).parts
        if name.startswith('/') or re.match(r'[A-Za-z]:', name):
            self._refuse(name, 'an absolute path')
        if '..' in parts:
            self._refuse(name, 'a path with ..')
        if '\\' in name or '\0' in name:
            self._refuse(name, 'a path with a backslash or a null character')
        if entry.forbidden:
            self._refuse(name, entry.forbidden)
        self.entries += 1
        if self.entries > self.limits.files:
            self._refuse(name, f'entry number {self.entries:,} of at most {self.limits.files:,}')
        if any(parts[:length] in self.files for length in range(1, len(parts))):
            self._refuse(name, 'below what is a file')
        if not entry.is_folder:
            if parts in self.files or not parts:
                self._refuse(name, 'a second file of that name' if parts else 'a file without a name')
            self.files.add(parts)
            self.announced += entry.size
            self.require_total(self.announced)
        return parts

    def count(self, size: int) -> None:
        """Take note of bytes about to be written, whatever was announced."""
        self.written += size
        self.require_total(self.written)

    def require_total(self, total: int) -> None:
        if total > self.most_bytes:
            raise ValueError(
                f'{self.archive} refused, it may be a bomb: {self.archive.stat().st_size:,} bytes unpack to '
                f'{total:,} or more, expected at most {self.limits.total_bytes:,} and {self.limits.ratio:g} '
                'times the archive. If you trust it, unpack it by hand'
            )

    def _refuse(self, name: str, what: str) -> None:
        raise ValueError(
            f'{self.archive} refused: its entry {name!r} is {what}; expected only files and folders below '
            'the archive. Do not unpack it: get it from another source'
        )


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[tuple[Iterator[_Entry], int | None]]:
    """The entries of an archive, and the sum of their sizes where that is known beforehand."""
    with archive.open('rb') as file:
        is_zip = file.read(4).startswith(ZIP_STARTS)
    if is_zip:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            yield (_zip_entry(opened, info) for info in members), sum(info.file_size for info in members)
    else:
        with tarfile.open(archive) as opened:
            yield (_tar_entry(opened, member) for member in opened), None


def _zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Entry:
    # The upper half of the attributes is a Unix mode, or 0 where the archive was made elsewhere.
    kind = stat.S_IFMT(info.external_attr >> 16)
    forbidden = ''
    if kind == stat.S_IFLNK:
        forbidden = 'a symbolic link'
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        forbidden = 'a device'
    elif info.flag_bits & 1:
        forbidden = 'encrypted'
    # `orig_filename`: as written in the archive, before zipfile cuts it at a null character
    return _Entry(info.orig_filename, info.file_size, info.is_dir(), forbidden, lambda: archive.open(info))


def _tar_entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> _Entry:
    forbidden = ''
    if member.issym():
        forbidden = f'a symbolic link to {member.linkname!r}'
    elif member.islnk():
        forbidden = f'a hard link to {member.linkname!r}'
    elif not (member.isfile() or member.isdir()):
        forbidden = 'a device'
    return _Entry(member.name, member.size, member.isdir(), forbidden, lambda: archive.extractfile(member))


def _progress_bar(shown: bool) -> Progress:
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )
