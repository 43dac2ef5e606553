"""Remote shards on this machine: brought whole, as many as fit a limit."""

import hashlib
import os
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from fsspec.core import url_to_fs

from ...weights.locate import cache_dir, offline
from .shard_files import plain_errors, remote_stamp
from .shard_index import SUFFIX
from .whole_file import FULL, whole_file

OWN = re.compile(r'[0-9a-f]{16}-.+')  # nobody else's files in the folder are counted, or removed
PARTIAL = re.compile(r'.*\.(\d+)\.partial')  # with the size that it will have
STALE = 3600  # seconds without a byte, after which an unfinished file is taken for one of a killed process
LANES = 4  # shards to bring at a time, ahead of need
TRIES = 3


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

    def path(self, address: str, stamp: str = '') -> Path:
        """Return where a version of a shard lies if it is here."""
        digest = hashlib.sha256(f'{address} {stamp}'.encode()).hexdigest()
        return self.folder / f'{digest[:16]}-{address.rpartition("/")[2]}'

    def index_path(self, address: str) -> Path:
        """Return where the index of a shard, remote or not, lies; it stays when the shard goes."""
        path = self.path(address)
        return path.with_name(path.name + SUFFIX)

    def bring(self, address: str, stamp: str) -> Path:
        """Return the path of a shard, and bring it first if it is not here.

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
                self._fetch(address, stamp, target)
        return target

    def bring_index(self, address: str) -> Path | None:
        """Bring the index that lies beside a remote shard, if there is one."""
        target = self.index_path(address)
        self.folder.mkdir(parents=True, exist_ok=True)
        fs, path = url_to_fs(address + SUFFIX)
        with plain_errors(address + SUFFIX):
            if not fs.exists(path):
                return None
            with whole_file(target, 'free some space, or set cache_dir') as temporary:
                fs.get_file(path, str(temporary))
        return target

    def bring_ahead(self, addresses: Sequence[str], stamps: Sequence[str]) -> None:
        """Begin to bring shards, in their order, in threads that end with the process."""
        todo = list(zip(addresses, stamps, strict=True))
        for lane in range(min(LANES, len(todo))):
            threading.Thread(target=self._bring_all, args=(todo[lane::LANES],), daemon=True).start()

    def _bring_all(self, todo: list[tuple[str, str]]) -> None:
        for address, stamp in todo:
            try:
                self.bring(address, stamp)
            except (OSError, ValueError):  # whoever needs the shard meets the same error, and tells
                return

    def _fetch(self, address: str, stamp: str, target: Path) -> None:
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
            self._transfer(address, partial)
            if partial.stat().st_size != size:
                raise OSError(f'{address}: {partial.stat().st_size:,} of {size:,} bytes came: try again')
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

    def _transfer(self, address: str, partial: Path) -> None:
        """Copy by fsspec, again after an error of the network."""
        fs, path = url_to_fs(address)
        for attempt in range(1, TRIES + 1):
            try:
                with plain_errors(address):
                    return fs.get_file(path, str(partial))
            except FileNotFoundError:
                raise
            except OSError as error:
                if attempt == TRIES or error.errno in FULL:
                    raise
                time.sleep(2**attempt)

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
                elif time.time() - state.st_mtime > STALE:
                    path.unlink(missing_ok=True)
                else:
                    held += int(unfinished[1])
            total = held + sum(size for _, size, _ in whole)
            for _, freed, path in sorted(whole):
                if total + size <= self.max_bytes:
                    break
                path.unlink(missing_ok=True)
                total -= freed
            if total + size > self.max_bytes:
                return False
            partial.touch()
            return True


def touch(path: Path, state: os.stat_result) -> None:
    """Note that a shard was used, at most once a second; its time of change stays."""
    now = time.time_ns()
    if now - state.st_atime_ns > 1_000_000_000:
        os.utime(path, ns=(now, state.st_mtime_ns))


def _is_whole(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False
