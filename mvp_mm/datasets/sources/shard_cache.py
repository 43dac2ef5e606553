"""Remote shards on this machine: brought whole, as many as fit a limit."""

import hashlib
import os
import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from fsspec.core import url_to_fs

from ...weights.locate import cache_dir, offline
from ...whole_file import FULL, whole_file
from .shard_files import patiently, remote_stamp
from .shard_index import SUFFIX, ShardIndex, read_index

OWN = re.compile(r'[0-9a-f]{16}-.+')  # nobody else's files in the folder are counted, or removed
PARTIAL = re.compile(r'(.*)\.(\d+)\.partial')  # a shard's name, and the size that it will have
LANES = 4  # shards to bring at a time, ahead of need
_counting_lanes = threading.Lock()


class ShardCache:
    """A folder of remote shards that processes of this machine share, the least recently used of which go.

    Args:
        folder: Default None: ``shards`` in the package's cache (``TORCH_HOME`` moves it).
        max_bytes: Limit of the shards in it; their indices are not counted.
    """

    def __init__(self, folder: str | None, max_bytes: int) -> None:
        if max_bytes < 1:
            raise ValueError(f'cache_bytes={max_bytes}: expected 1 byte or more')
        self.folder = Path(folder).expanduser() if folder else cache_dir() / 'shards'
        self.max_bytes = max_bytes
        self._ahead: deque[tuple[str, str, str]] = deque()
        self._lanes = 0  # threads that bring what is in the queue

    def path(self, address: str, stamp: str = '') -> Path:
        """Return where a version of a shard lies if it is here."""
        digest = hashlib.sha256(f'{address} {stamp}'.encode()).hexdigest()
        return self.folder / f'{digest[:16]}-{address.rpartition("/")[2]}'

    def index_path(self, address: str) -> Path:
        """Return where the index of a shard, remote or not, lies; it stays when the shard goes."""
        path = self.path(address)
        return path.with_name(path.name + SUFFIX)

    def bring(self, address: str, stamp: str, sha256: str = '') -> Path:
        """Return the path of a shard of this size, version and (unless ``''``) digest, brought if need be.

        Raises:
            FileNotFoundError: If it has vanished.
            ValueError: If it has another size or version than ``stamp`` says, or is larger than the limit.
            OSError: If it cannot be read, or the disk is full.
        """
        target, size = self.path(address, stamp), int(stamp.split()[0])
        if _is_whole(target, size):
            return target
        if size > self.max_bytes:
            raise ValueError(
                f'{address} has {size:,} bytes, and the cache may hold {self.max_bytes:,}: raise cache_bytes'
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{target}.lock'):
            if not _is_whole(target, size):
                self._fetch(address, stamp, sha256, target)
        return target

    def bring_index(self, address: str) -> ShardIndex | None:
        """Bring and read the index that lies beside a remote shard; None if there is none."""
        target = self.index_path(address)
        self.folder.mkdir(parents=True, exist_ok=True)
        fs, path = url_to_fs(address + SUFFIX)
        try:
            with whole_file(target, 'free some space, or set cache_dir') as temporary:
                patiently(address + SUFFIX, lambda: fs.get_file(path, str(temporary)))
        except (FileNotFoundError, PermissionError):  # S3's answer to who may not list
            return None
        return read_index(target)

    def bring_ahead(self, shards: Sequence[tuple[str, str, str]]) -> None:
        """Begin to bring shards (see :meth:`bring`) in their order, in threads that end with the process.

        What an earlier call asked for and is not begun is given up: a resumed epoch runs through its past.
        """
        with _counting_lanes:
            self._ahead = deque(shards)
            new = range(self._lanes, min(LANES, len(shards)))
            self._lanes += len(new)
        for _ in new:
            threading.Thread(target=self._bring_queued, daemon=True).start()

    def _bring_queued(self) -> None:
        while True:
            with _counting_lanes:
                if not self._ahead:
                    self._lanes -= 1
                    return
                shard = self._ahead.popleft()
            with suppress(OSError, ValueError):  # whoever needs the shard meets the same error, and tells
                self.bring(*shard)

    def _fetch(self, address: str, stamp: str, sha256: str, target: Path) -> None:
        if offline():
            raise FileNotFoundError(f'{address} is not in {self.folder}, and the network is switched off')
        now = remote_stamp(address, fresh=True)
        if now != stamp:
            raise ValueError(
                f'the shard {address} has changed (size and version {now}, when the training began {stamp}): '
                'its samples are others now. Bring the old one back, or begin again'
            )
        size = int(stamp.split()[0])
        partial = target.with_name(f'{target.name}.{size}.partial')
        while not self._reserve(partial, size):
            time.sleep(0.1)  # others are being brought, and then may go
        try:
            patiently(address, lambda: self._transfer(address, partial, size, sha256))
            os.replace(partial, target)
        except OSError as error:
            if error.errno in FULL:
                raise OSError(
                    error.errno,
                    f'the disk of {self.folder} is full: free some space, set cache_dir to a folder on '
                    f'another disk, or lower cache_bytes (now {self.max_bytes:,})',
                ) from error
            raise
        finally:
            partial.unlink(missing_ok=True)

    def _transfer(self, address: str, partial: Path, size: int, sha256: str) -> None:
        """Copy by fsspec, and check what came."""
        fs, path = url_to_fs(address)
        fs.get_file(path, str(partial))
        with partial.open('rb') as file:
            os.fsync(file.fileno())
            if (found := os.fstat(file.fileno()).st_size) != size:
                raise OSError(f'{found:,} of {size:,} bytes came')
            digest = hashlib.sha256()
            while sha256 and (chunk := file.read(1 << 20)):
                digest.update(chunk)
        if sha256 and digest.hexdigest() != sha256:
            raise OSError(f'its sha256 is {digest.hexdigest()}, and {sha256} in its {SUFFIX}: upload both')

    def _reserve(self, partial: Path, size: int) -> bool:
        """Remove the least recently used shards until one of a size fits, and keep its place."""
        with FileLock(self.folder / 'cache.lock'):
            whole, held = [], 0
            for path in self.folder.iterdir():
                unfinished = PARTIAL.fullmatch(path.name)
                if path == partial or path.suffix in ('.lock', SUFFIX) or not OWN.fullmatch(path.name):
                    continue
                try:
                    state = path.stat()
                except FileNotFoundError:  # made whole meanwhile, or evicted
                    continue
                if unfinished is None:
                    whole.append((state.st_atime_ns, state.st_size, path))
                elif _is_brought(path.with_name(unfinished[1])):
                    held += int(unfinished[2])
                else:  # a killed process left it
                    path.unlink(missing_ok=True)
            room = self.max_bytes - size - held - sum(size for _, size, _ in whole)
            for _, freed, path in sorted(whole):
                if room < 0:
                    path.unlink(missing_ok=True)
                    room += freed
            if room >= 0:
                partial.touch()
            return room >= 0


def touch(path: Path, state: os.stat_result) -> None:
    """Note that a shard was used, at most once a second; its time of change stays."""
    now = time.time_ns()
    if now - state.st_atime_ns > 1_000_000_000:
        with suppress(OSError):  # evicted meanwhile, or another user's
            os.utime(path, ns=(now, state.st_mtime_ns))


def _is_brought(target: Path) -> bool:
    """Whether a process is at it: it holds the lock of :meth:`ShardCache.bring`."""
    with suppress(Timeout), FileLock(f'{target}.lock', timeout=0):
        return False
    return True


def _is_whole(path: Path, size: int) -> bool:
    with suppress(FileNotFoundError):
        return path.stat().st_size == size
    return False
