"""Download a file over a line that breaks.

The bytes go into ``FILE.part``; what the server said about them (address, size, ETag, date) into
``FILE.part.json``. A later attempt, in this process or the next one, asks for the rest only, and takes it
only if it is the rest of the same file. ``FILE`` itself appears when it is whole and checked, never before.
"""

import contextlib
import dataclasses
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

CHUNK_BYTES = 1 << 18
# Answers after which the same request may succeed later: timeout, too many requests, server trouble.
PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)


class DownloadError(OSError):
    """No address gave the file."""


class ChecksumError(ValueError):
    """What was downloaded is not the file that was asked for."""


class _Broken(Exception):
    """An attempt failed in a way that may pass."""


class _Refused(Exception):
    """An address will not give the file however often it is asked."""


def download_file(
    urls: str | Sequence[str],
    target: Path,
    sha256: str | None = None,
    md5: str | None = None,
    check: Callable[[Path], None] | None = None,
    attempts: int = 5,
    wait: float = 2.0,
    timeout: float = 30.0,
    progress: bool = True,
) -> Path:
    """Download a file, going on where an earlier attempt stopped.

    Args:
        urls: One http(s) address, or several of the same file, tried in order; the one that an unfinished
            download came from is tried first.
        target: Where the file goes. If it is there already, nothing is downloaded.
        sha256: Expected SHA-256 in hexadecimal. Default None: not checked.
        md5: Expected MD5 in hexadecimal. Default None: not checked.
        check: Looks at the whole file before it gets its name, and raises ValueError to refuse it.
        attempts: Attempts in a row, for an address, that bring no new bytes before the next is tried.
        wait: Seconds before the second attempt; doubled before each further one, up to a minute.
        timeout: Seconds without any byte after which a connection counts as broken.
        progress: Show a progress bar on the error stream.

    Returns:
        The target.

    Raises:
        ChecksumError: If an address gave another file than expected, and no other address gave the right
            one. What was downloaded has been deleted.
        DownloadError: If no address gave the file; says why for each. What has arrived stays in
            ``FILE.part`` for the next call.
        OSError: If the disk is full or cannot be written to; likewise.
        ValueError: If an address is not http(s), a checksum is malformed, or the target exists with another
            checksum.
    """
    urls = [urls] if isinstance(urls, str) else list(dict.fromkeys(urls))
    expected = _expected_digests(sha256=sha256, md5=md5)
    for url in urls:
        if not re.match(r'https?://[^/]', url):
            raise ValueError(f'{url!r} is no address to download from: expected http://... or https://...')
    if not urls:
        raise ValueError(f'no address to download {target} from: give at least one')
    if target.exists():
        _refuse_other_file(target, expected)
        return target

    target.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(target)
    origin = part.origin()
    if origin is not None:
        urls.sort(key=lambda url: url != origin.url)
    reasons: dict[str, Exception] = {}
    with _progress_bar(progress) as bar:
        task = bar.add_task(target.name, total=None)
        for url in urls:
            source = _Source(url, part, mixes=bool(expected), timeout=timeout, show=_Show(bar, task))
            try:
                _fetch(source, expected, check, attempts, wait)
            except (_Refused, _Broken, ChecksumError) as error:
                reasons[url] = error
                continue
            os.replace(part.path, target)
            part.discard()
            return target
    raise _all_failed(target, part, reasons)


def file_digests(path: Path, *names: str) -> dict[str, str]:
    """Checksums of a file, read once.

    Args:
        path: File.
        *names: Algorithms of ``hashlib``, such as ``'sha256'``.

    Returns:
        Hexadecimal digests by name.
    """
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    with path.open('rb') as file:
        while chunk := file.read(1 << 20):
            for digest in digests.values():
                digest.update(chunk)
    return {name: digest.hexdigest() for name, digest in digests.items()}


@dataclasses.dataclass(frozen=True)
class _Origin:
    """What a server says about a file; empty or None where it does not."""

    url: str
    total: int | None
    etag: str
    modified: str

    @classmethod
    def of(cls, url: str, headers: http.client.HTTPMessage, total: int | None) -> '_Origin':
        return cls(url, total, headers.get('ETag') or '', headers.get('Last-Modified') or '')

    def is_same_file(self, other: '_Origin') -> bool:
        """Whether nothing says that two answers are about different files."""
        pairs = [(self.total, other.total)]
        if self.url == other.url:  # mirrors date and tag their copies each in their own way
            pairs += [(self.etag, other.etag), (self.modified, other.modified)]
        return all(mine == theirs for mine, theirs in pairs if mine and theirs)


class _Part:
    """The unfinished file, and the notes on where it came from."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f'{target.name}.part')
        self.notes = target.with_name(f'{target.name}.part.json')

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self) -> _Origin | None:
        """Where the bytes came from, or None if that is not known."""
        try:
            return _Origin(**json.loads(self.notes.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def begin(self, origin: _Origin) -> BinaryIO:
        """Start an empty file."""
        file = self.path.open(
            'wb'
        )  # emptied before the notes change, so that they never describe other bytes
        self.notes.write_text(json.dumps(dataclasses.asdict(origin)))
        return file

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


@dataclasses.dataclass
class _Show:
    """A line of the progress display."""

    bar: Progress
    task: int

    def at(self, done: int, total: int | None) -> None:
        self.bar.update(self.task, completed=done, total=total)


@dataclasses.dataclass
class _Source:
    """One address, and the part file that it fills.

    ``mixes`` says that bytes of one mirror may be continued from another, because a checksum will be
    compared at the end.
    """

    url: str
    part: _Part
    mixes: bool
    timeout: float
    show: _Show

    def receive(self) -> bool:
        """Bring the part file to its full length, if the line holds.

        Returns:
            Whether bytes of an earlier attempt were used.

        Raises:
            _Broken: If the line broke, or the server is in trouble.
            _Refused: If the server does not give the file.
        """
        origin, start = self.part.origin(), self.part.size()
        whole = origin is not None and origin.total is not None
        if not whole or start > origin.total or (origin.url != self.url and not self.mixes):
            start = 0
        try:
            with self._ask(start, origin) as answer:
                if start and answer.status == 206:
                    if not self._continues(answer, start, origin):
                        return self._start_again()
                    self._write(answer, _on_disk(self.part.path.open, 'ab'), start, origin.total)
                    return True
                if answer.status != 200:
                    raise _Refused(f'answered {answer.status} where the whole file (200) was expected')
                fresh = _Origin.of(self.url, answer.headers, _length(answer.headers))
                self._write(answer, _on_disk(self.part.begin, fresh), 0, fresh.total)
                return False
        except urllib.error.HTTPError as error:
            with error:
                return self._on_status(error, start, origin)
        except urllib.error.URLError as error:
            raise _Broken(f'cannot be reached ({error.reason})') from error
        except http.client.InvalidURL as error:
            raise _Refused(f'is no valid address ({error})') from error
        except _DiskError as error:
            raise error.cause from None
        except (http.client.HTTPException, OSError) as error:
            raise _Broken(f'the connection broke ({type(error).__name__}: {error})') from error

    def _ask(self, start: int, origin: _Origin | None) -> http.client.HTTPResponse:
        request = urllib.request.Request(self.url, headers={'User-Agent': 'mvp_mm'})
        if start:
            request.add_header('Range', f'bytes={start}-')
            if origin.url == self.url:
                # a weak tag (W/) promises no equal bytes, so it may not be asked for here (RFC 9110, 13.1.5)
                tag = '' if origin.etag.startswith('W/') else origin.etag
                if tag or origin.modified:
                    request.add_header('If-Range', tag or origin.modified)
        return urllib.request.urlopen(request, timeout=self.timeout)

    def _continues(self, answer: http.client.HTTPResponse, start: int, origin: _Origin) -> bool:
        found = re.fullmatch(r'bytes (\d+)-(\d+)/(\d+)', answer.headers.get('Content-Range', '').strip())
        if found is None or int(found[1]) != start:
            return False
        return _Origin.of(self.url, answer.headers, int(found[3])).is_same_file(origin)

    def _on_status(self, error: urllib.error.HTTPError, start: int, origin: _Origin | None) -> bool:
        if start and error.code == 416:  # there is nothing after these bytes
            total = re.fullmatch(r'bytes \*/(\d+)', error.headers.get('Content-Range', '').strip())
            if total is not None and int(total[1]) == start == origin.total:
                return True
            return self._start_again()
        kind = _Broken if error.code in PASSING_STATUS else _Refused
        raise kind(f'answered {error.code} {error.reason}') from error

    def _start_again(self) -> bool:
        self.part.discard()
        return self.receive()

    def _write(self, answer: http.client.HTTPResponse, file: BinaryIO, done: int, total: int | None) -> None:
        with _closing(file):
            if total is not None:
                _require_space(self.part.path, total - done)
            self.show.at(done, total)
            while chunk := answer.read(CHUNK_BYTES):
                _on_disk(file.write, chunk)
                done += len(chunk)
                self.show.at(done, total)
            _on_disk(file.flush)
            _on_disk(os.fsync, file.fileno())
        # without this, http.client takes a line that was cut for the end of the file
        if total is not None and done < total:
            raise _Broken(f'closed the connection after {done:,} of {total:,} bytes')
        if total is not None and done > total:
            self.part.discard()
            raise _Broken(f'sent {done:,} bytes after announcing {total:,}')


class _DiskError(Exception):
    """Wraps what went wrong on this machine, to tell it from what went wrong on the line."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _on_disk(action: Callable, *args):
    """Call ``action``, and mark an OSError as one of the disk."""
    try:
        return action(*args)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            error = OSError(
                error.errno,
                f'the disk is full ({error.strerror}). Free some space and call again: the download goes on '
                'where it stopped',
            )
        raise _DiskError(error) from error


@contextlib.contextmanager
def _closing(file: BinaryIO) -> Iterator[None]:
    try:
        yield
    finally:
        _on_disk(file.close)  # which writes what is still in memory


def _require_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise _DiskError(
            OSError(
                errno.ENOSPC,
                f'{path.parent} has {free:,} bytes free, and {needed:,} are still to be downloaded. Free '
                'some space or choose another folder, and call again',
            )
        )


def _fetch(
    source: _Source,
    expected: dict[str, str],
    check: Callable[[Path], None] | None,
    attempts: int,
    wait: float,
) -> None:
    """Fill the part file from one address, and check it.

    Raises:
        _Broken, _Refused, ChecksumError: If the address fails for good.
    """
    failures, furthest = 0, source.part.size()
    while True:
        try:
            resumed = source.receive()
            _verify(source.part, expected, check)
            return
        except ChecksumError:
            if not resumed:
                raise
            furthest = 0  # the pieces may be of two versions of the file: once more, all of one
        except _Broken:
            # Only what was never reached before counts as progress: a server that cannot continue a
            # file, on a line that always breaks, would otherwise be asked for ever.
            failures = 0 if source.part.size() > furthest else failures + 1
            furthest = max(furthest, source.part.size())
            if failures >= attempts:
                raise
            time.sleep(min(wait * 2 ** max(failures - 1, 0), 60.0))


def _verify(part: _Part, expected: dict[str, str], check: Callable[[Path], None] | None) -> None:
    try:
        found = file_digests(part.path, *expected)
        for name, digest in expected.items():
            if found[name] != digest:
                raise ChecksumError(f'its {name} is {found[name]}, expected {digest}')
        if check is not None:
            check(part.path)
    except ValueError as error:
        part.discard()
        raise error if isinstance(error, ChecksumError) else ChecksumError(str(error)) from error


def _expected_digests(**digests: str | None) -> dict[str, str]:
    lengths = dict(sha256=64, md5=32)
    given = {name: digest.strip().lower() for name, digest in digests.items() if digest}
    for name, digest in given.items():
        if not re.fullmatch(f'[0-9a-f]{{{lengths[name]}}}', digest):
            raise ValueError(f'{digest!r} is no {name}: expected {lengths[name]} hexadecimal digits')
    return given


def _refuse_other_file(target: Path, expected: dict[str, str]) -> None:
    if not target.is_file():
        raise ValueError(f'{target} is in the way of the download and is no file: move it, or choose another')
    found = file_digests(target, *expected) if expected else {}
    for name, digest in expected.items():
        if found[name] != digest:
            raise ChecksumError(
                f'{target} is there already, but its {name} is {found[name]}, expected {digest}. It was left '
                'alone: delete it to download it again, or correct the checksum'
            )


def _all_failed(target: Path, part: _Part, reasons: dict[str, Exception]) -> Exception:
    listed = '\n'.join(f'  {url}: {reason}' for url, reason in reasons.items())
    kept = f' {part.size():,} bytes are kept in {part.path}; the next call goes on from there.'
    if any(isinstance(reason, ChecksumError) for reason in reasons.values()):
        return ChecksumError(
            f'{target.name} could not be downloaded as expected; what came was deleted:\n{listed}\n'
            'Compare the checksum with its source, or give another address'
        )
    return DownloadError(
        f'{target.name} could not be downloaded:\n{listed}\n'
        'Check the network and the proxy settings (http_proxy, https_proxy), or give another address.'
        + (kept if part.size() else '')
    )


def _length(headers: http.client.HTTPMessage) -> int | None:
    value = headers.get('Content-Length', '')
    return int(value) if value.isdecimal() else None


def _progress_bar(shown: bool) -> Progress:
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )
