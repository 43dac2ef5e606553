"""Images with texts in tar shards, read by index."""

import logging
import os
from bisect import bisect_right
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS
from torch.utils.data import DataLoader

from ...hardware import usable_cores
from ...weights.locate import offline
from ...wording import counted
from .captioned_source import CaptionedSource
from .shard_cache import ShardCache, touch
from .shard_files import find_shards, is_remote, remote_stamp
from .shard_index import SUFFIX, UNREAD, ShardIndex, local_stamp, read_index, scan_shard, texts_of

LISTED = 10  # broken shards named in the log
THREADS = 16  # that ask for the states of remote shards
WAITS = 100  # times to bring a shard again that other processes evict before it is read


@DATASETS.register_module()
class ImageTextShards(CaptionedSource):
    """Samples of tar shards in webdataset's layout: a jpg, jpeg, png or webp, and a txt, json or cls.

    Shards are indexed, not streamed: a file beside each says where its samples lie, so that samples are drawn
    by number, as from a folder. It is written when a shard is first seen. A broken shard is named in the log
    and in ``faults``, and its readable part is used. Remote shards are brought whole to a bounded cache.

    Args:
        data_root: Shards: a folder, a pattern such as ``'DIR/train-{0000..0039}.tar'`` or ``'DIR/*.tar'``, an
            address of fsspec such as ``'s3://bucket/train-*.tar'``, or a list of these.
        split: Of a folder: ``<split>/*.tar`` or ``<split>-*.tar`` where there are such. Default ``'train'``.
        labels: Use only the samples whose ``cls`` is one of these. Default None: all samples.
        split_lines: Take each line of a ``txt`` as a caption. Default True; False: join them.
        caption_key: Key of a ``json`` that holds the captions, text or a list; a ``txt`` is then passed over.
            Default ``''``: the ``txt``, or else ``caption``, ``captions``, ``text`` or ``texts`` of the
            ``json``.
        cache_dir: Folder for remote shards, their indices, and those of folders that cannot be written.
            Default None: in the package's cache.
        cache_bytes: Limit of the remote shards in it, the least recently used of which go. Default 64 GiB.
        index_dir: Folder for the indices of local shards. Default None: beside each shard.
        **kwargs: Arguments of :class:`.CaptionedSource`.

    Raises:
        FileNotFoundError: If there are no such shards, or no sample in them.
        ValueError: If an address cannot be read.
    """

    def __init__(
        self,
        data_root: str | Sequence[str],
        split: str = 'train',
        labels: Sequence[int] | None = None,
        split_lines: bool = True,
        caption_key: str = '',
        cache_dir: str | None = None,
        cache_bytes: int = 64 << 30,
        index_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.split_lines, self.caption_key = split_lines, caption_key
        self.cache = ShardCache(cache_dir, cache_bytes)
        self.index_dir = Path(index_dir).expanduser() if index_dir else None
        self.shards = find_shards(data_root, split)
        self._indices = self._load_indices()
        pairs = zip(self.shards, self._indices, strict=True)
        self.faults = {shard: index.faults for shard, index in pairs if index.faults}
        self._rows = [self._used(index, labels) for index in self._indices]
        self.shard_sizes = [len(rows) for rows in self._rows]
        self._ends = np.cumsum(self.shard_sizes).tolist()
        self._told_of_small_cache = False
        self._tell(data_root)

    def __len__(self) -> int:
        return self._ends[-1]

    def record(self, index: int) -> tuple[str, bytes, list[str], int | None]:
        if not 0 <= index < self._ends[-1]:
            raise IndexError(f'sample {index} of {len(self)}')
        shard, row = self._find(index)
        found = self._indices[shard]
        image, txt, content = self._read(shard, found.places[row, :3].tolist())
        texts = texts_of('txt', txt, self.split_lines) if txt and not self.caption_key else []
        if content and not texts:
            texts = texts_of('json', content, caption_key=self.caption_key)
        label = int(found.labels[row])
        return f'{self.shards[shard]}/{found.name(row)}', image, texts, None if label < 0 else label

    def _find(self, index: int) -> tuple[int, int]:
        """Return the shard of a sample, and its row there."""
        shard = bisect_right(self._ends, index)
        return shard, int(self._rows[shard][index - self._ends[shard] + self.shard_sizes[shard]])

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the label of a sample in a list, without reading it."""
        shard, row = self._find(int(idx))
        return [int(self._indices[shard].labels[row])]

    def replacements(self, index: int) -> range:
        """Return the samples of the same shard, which is here."""
        shard = bisect_right(self._ends, index)
        return range(self._ends[shard] - self.shard_sizes[shard], self._ends[shard])

    def read_ahead(self, now: Sequence[int], following: Sequence[int]) -> None:
        """Begin to bring remote shards: those in use, then as many of the following as fit beside them."""
        todo, total = [], 0
        for number in dict.fromkeys((*now, *following)):
            shard, index = self.shards[number], self._indices[number]
            if is_remote(shard):
                total += index.size
                if total > self.cache.max_bytes:
                    break
                todo.append((shard, index.stamp, index.sha256))
        if total > self.cache.max_bytes and len(todo) < len(now) and not self._told_of_small_cache:
            self._told_of_small_cache = True
            print_log(
                f'The cache of {self.cache.max_bytes:,} bytes holds less than a window of {len(now)} shards: '
                'they will be brought again and again. Raise cache_bytes, or lower sampler.window',
                'current',
                logging.WARNING,
            )
        self.cache.bring_ahead(todo)

    def _read(self, shard: int, places: list[list[int]]) -> list[bytes]:
        """Read members of a shard, b'' where there is none, if the shard is what it was."""
        path, index = self.shards[shard], self._indices[shard]
        file, handle = self._open(path, index)
        try:
            state = os.fstat(handle)
            contents = [os.pread(handle, size, at) if size > 0 else b'' for at, size in places]
        except OSError as error:
            raise OSError(error.errno, f'the shard {path} cannot be read: {error.strerror}') from error
        finally:
            os.close(handle)
        is_short = any(len(content) < size for content, (_, size) in zip(contents, places, strict=True))
        remote = is_remote(path)  # its time here is its own
        is_same = state.st_size == index.size if remote else local_stamp(state) == index.stamp
        if is_short or not is_same:
            raise ValueError(
                f'the shard {path} has changed while it was in use ({state.st_size:,} bytes, {index.size:,} '
                'before): its samples are others now. Bring the old one back, or begin again'
            )
        if remote:
            touch(Path(file), state)
        return contents

    def _open(self, path: str, index: ShardIndex) -> tuple[str, int]:
        remote, gone = is_remote(path), None
        for _ in range(WAITS if remote else 1):
            file = str(self.cache.bring(path, index.stamp, index.sha256)) if remote else path
            try:
                return file, os.open(file, os.O_RDONLY)
            except FileNotFoundError as error:
                gone = error
        raise FileNotFoundError(
            f'the shard {path} has vanished while it was in use: bring it back, and go on with --resume'
        ) from gone

    def _load_indices(self) -> list[ShardIndex]:
        """Read the index of each shard, and make those that are missing, in loader workers."""
        self._stamps = self._remote_stamps([shard for shard in self.shards if is_remote(shard)])
        found = [self._kept_index(shard) for shard in self.shards]
        missing = [number for number, index in enumerate(found) if index is None]
        if missing:
            print_log(f'{type(self).__name__}: indexing {counted(len(missing), "shard")}, once', 'current')
            rank, world_size = get_dist_info()
            first = len(missing) * rank // world_size  # each begins elsewhere, and finds the rest made
            missing = missing[first:] + missing[:first]
            # torchrun's processes all see all cores of their machine
            cores = usable_cores() // int(os.environ.get('LOCAL_WORLD_SIZE', 1))
            workers = min(max(1, cores), len(missing) // 4)
            own = torch.Generator()  # else workers' seeds are drawn from the training's
            options: dict[str, Any] = dict(dataset=self.shards, sampler=missing, collate_fn=self._index)
            loader = DataLoader[Any](batch_size=None, num_workers=workers, generator=own, **options)
            for number, index in zip(missing, loader, strict=True):
                found[number] = index
        return [index for index in found if index is not None]

    def _remote_stamps(self, shards: list[str]) -> dict[str, str]:
        """Ask for size and version of each; without a network take those of the last time."""
        if shards and not offline():
            with ThreadPool(THREADS) as pool:
                return dict(zip(shards, pool.map(remote_stamp, shards), strict=True))
        kept = {shard: read_index(self.cache.index_path(shard)) for shard in shards}
        if gone := [shard for shard, index in kept.items() if index is None]:
            raise FileNotFoundError(
                f'{gone[0]} was never in {self.cache.folder}, and the network is switched off'
            )
        return {shard: index.stamp for shard, index in kept.items() if index is not None}

    def _places(self, shard: str) -> list[Path]:
        """Return where an index may lie, the first choice first."""
        cached = self.cache.index_path(shard)
        if is_remote(shard):
            return [cached]
        return [Path(shard + SUFFIX), cached] if self.index_dir is None else [self.index_dir / cached.name]

    def _kept_index(self, shard: str) -> ShardIndex | None:
        """Return the index of a shard if there is one that fits it."""
        try:
            stamp = self._stamps.get(shard) or local_stamp(os.stat(shard))
        except OSError:
            return None
        for index in map(read_index, self._places(shard)):
            if index is not None and (index.stamp, index.caption_key) == (stamp, self.caption_key):
                return index
        return None

    def _scan(self, shard: str) -> ShardIndex:
        """Make the index of a shard, or take the one that was published with a remote shard."""
        if not is_remote(shard):
            return scan_shard(Path(shard), caption_key=self.caption_key)
        stamp, index = self._stamps[shard], self.cache.bring_index(shard)
        if index is None or (str(index.size), index.caption_key) != (stamp.split()[0], self.caption_key):
            return scan_shard(self.cache.bring(shard, stamp), stamp, self.caption_key)
        index.stamp, index.path = stamp, None  # no file holds this stamp yet
        return index

    def _index(self, shard: str) -> ShardIndex:
        """Return the index of a shard, and keep it if it is new: beside the shard, or else in the cache."""
        if (index := self._kept_index(shard)) is not None:
            return index
        index, reason = self._scan(shard), 'its folder is read-only'
        if any(fault.startswith(UNREAD) for fault in index.faults):
            return index
        for place in self._places(shard):
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                if place.parent.stat().st_mode & 0o222:  # root could write to any
                    index.save(place)
                    return index
            except OSError as error:
                reason = str(error)
        print_log(f'The index of {shard} cannot be kept: {reason}', 'current', logging.WARNING)
        return index

    def _used(self, index: ShardIndex, labels: Sequence[int] | None) -> np.ndarray:
        """Rows of the samples that are used; count captions that are missing."""
        used = np.ones(len(index), bool)
        if labels is not None:
            used &= np.isin(index.labels, list(labels))
        captioned = (index.captioned == 1) | (index.labels >= 0 if self.classes is not None else False)
        self._without += int((used & ~captioned).sum())
        self._empty += int((used & (index.captioned == 2)).sum())
        if self.require_caption:
            used &= captioned
        return np.flatnonzero(used).astype(np.int32)

    def _tell(self, data_root: str | Sequence[str]) -> None:
        for shard, faults in list(self.faults.items())[:LISTED]:
            print_log(f'The shard {shard} {"; ".join(faults)}', 'current', logging.WARNING)
        if (more := len(self.faults) - LISTED) > 0:
            told = f'{more} more shards have faults: mvp-mm shards --check lists them'
            print_log(told, 'current', logging.WARNING)
        place = f'{counted(len(self.shards), "shard")} of {data_root}'
        if not len(self):
            fault = next((f': {shard} {faults[0]}' for shard, faults in self.faults.items()), '')
            raise FileNotFoundError(f'no sample to use in {place}{fault}')
        print_log(f'{type(self).__name__}: {self.captions_note()}; {place}', 'current')
