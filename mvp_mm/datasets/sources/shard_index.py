"""Where the samples of a tar shard lie: found once, and kept in a file."""

import io
import json
import os
import posixpath
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ...text.decode import decode_text
from ...whole_file import whole_file
from .captioned_source import captions_in, lines_of
from .image_files import is_hidden

IMAGES = ('jpg', 'jpeg', 'png', 'webp')
KINDS = ('image', 'txt', 'json', 'cls')  # the columns of ShardIndex.places
SUFFIX = '.index'  # after the shard's own name
VERSION = '1'
MAX_MEMBER = 256 << 20  # bytes: a photograph has a hundredth of that
MAX_TEXT = 1 << 20
UNREAD = 'cannot be read'  # begins a fault of the disk or network, which may be over next time
MAX_LABEL = np.iinfo(np.int32).max
TYPE_AT = 156  # byte of a header; 'g': facts of all members, which tarfile passes over
PACKED = ((b'\x1f\x8b', 'gunzip'), (b'BZh', 'bunzip2'), (b'\xfd7z', 'unxz'), (b'(\xb5/\xfd', 'unzstd'))
BROKEN = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError)


class _Shard(io.FileIO):
    """A file for tarfile, which would take as much memory as the header of a long name asks for."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_TEXT:
            raise tarfile.ReadError(f'a header of {size:,} bytes')
        return super().read(size) or b''


@dataclass
class ShardIndex:
    """The samples of a shard. The arrays of an index that was read are mapped, and shared by processes."""

    stamp: str  # what the shard was like: its size in bytes, and its time, or a remote one's version
    faults: list[str]  # what is wrong with it, a sentence each
    # Offset and size in bytes of the members of each sample, int64 (N, 4, 2), in the order of KINDS; size -1:
    # there is none.
    places: np.ndarray
    names: np.ndarray  # bytes of the images' names, one after another, uint8
    name_ends: np.ndarray  # where each ends, int64 (N,)
    labels: np.ndarray  # int32 (N,); -1: none
    captioned: np.ndarray  # whether there is a text that is not empty, uint8 (N,); 2: there is an empty one
    sha256: str = ''  # of the shard, if whoever wrote it noted it
    caption_key: str = ''  # see texts_of; what captioned is about
    path: Path | None = None  # the file it was read from, if any

    def __len__(self) -> int:
        return len(self.places)

    def __reduce__(self) -> Any:
        if self.path is not None:  # loader workers that are not forked map the file again
            return read_index, (self.path,)
        return ShardIndex, tuple(vars(self).values())

    @property
    def size(self) -> int:
        """Bytes of the shard."""
        return int(self.stamp.split()[0])

    def name(self, row: int) -> str:
        """Return the name of a sample's image in the shard."""
        start = self.name_ends[row - 1] if row else 0
        return self.names[start : self.name_ends[row]].tobytes().decode('utf-8', 'surrogateescape')

    def save(self, path: Path) -> None:
        """Write the index, whole or not at all."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        metadata = dict(version=VERSION, stamp=self.stamp, faults=json.dumps(self.faults))
        metadata |= dict(sha256=self.sha256, caption_key=self.caption_key)
        with whole_file(path, 'free some space, or set index_dir to a folder on another disk') as temporary:
            temporary.write_bytes(save(arrays, metadata))  # save_file would let only this user read
        self.path = path


ARRAYS = ('places', 'names', 'name_ends', 'labels', 'captioned')


def read_index(path: Path) -> ShardIndex | None:
    """Map an index; None if there is none, or none of this version."""
    try:
        with safe_open(path, 'pt') as file:
            metadata = file.metadata() or {}
            if metadata.get('version') != VERSION:
                return None
            arrays = {name: file.get_tensor(name).numpy() for name in ARRAYS}
        notes: dict[str, Any] = {name: metadata.get(name, '') for name in ('sha256', 'caption_key')}
        return ShardIndex(metadata['stamp'], json.loads(metadata['faults']), **arrays, **notes, path=path)
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def local_stamp(state: os.stat_result) -> str:
    """Return what a file on this machine is known by."""
    return f'{state.st_size} {state.st_mtime_ns}'


def scan_shard(path: Path, stamp: str | None = None, caption_key: str = '') -> ShardIndex:
    """Find the samples of a shard by its headers; what is wrong is told in ``faults``, never raised.

    A sample is made of the members of one name up to its first dot, in webdataset's way. Of a shard that is
    truncated or damaged the readable members count; links, members that are larger than 256 MiB or whose
    path leaves the archive, and a second member of the same kind do not.
    """
    scan = _Scan(caption_key)
    try:
        with _Shard(path) as file:
            state = os.fstat(file.fileno())
            stamp = stamp or local_stamp(state)
            for member in _members(file, state.st_size, scan.faults):
                scan.add(file, member)
    except OSError as error:
        scan.faults.append(f'{UNREAD}: {error.strerror or error}')
    return scan.index(stamp or '0 0')


def _members(file: io.FileIO, size: int, faults: list[str]) -> Iterator[tarfile.TarInfo]:
    """Yield the members whose bytes are all there; go on after a damaged place if there is a header."""
    if not size:
        faults.append('is empty')
        return
    position = 0
    try:
        with tarfile.open(fileobj=file, mode='r:') as tar:
            tar.ignore_zeros = True  # what tarfile calls going on after damage, or a second archive
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # they would fill the memory
                gap = member.offset > position and os.pread(file.fileno(), 1, position + TYPE_AT) != b'g'
                if gap and _has_content(file, position, member.offset):
                    faults.append(f'is damaged from byte {position:,} to {member.offset:,}')
                stored = member.size if member.isreg() and not member.issparse() else 0
                if member.size < 0 or member.offset_data < position:
                    faults.append(f'is damaged at byte {position:,}: what follows is left out')
                    return
                if member.offset_data + stored > size:
                    faults.append(f'is truncated in {member.name}, at byte {size:,}')
                    return
                yield member
                position = max(tar.offset, member.offset_data)
    except BROKEN as error:
        start = os.pread(file.fileno(), 16, 0)
        tools = (f'unpack it with {tool}' for magic, tool in PACKED if start.startswith(magic))
        advice = next(tools, 'download it again, or delete it')
        no_tar = f'is no plain tar file, it begins with {start!r}: {advice}'
        faults.append(f'is truncated or damaged after byte {position:,}: {error}' if position else no_tar)
        return
    if position >= size:
        faults.append('has no end: it may be truncated between two members')
    elif _has_content(file, position, size):
        cut = f'is truncated in a header, at byte {size:,}'
        faults.append(cut if size - position < 512 else f'is damaged from byte {position:,} to its end')


def _has_content(file: io.FileIO, start: int, stop: int) -> bool:
    """Whether a part of a file has bytes other than zero."""
    pieces = ((at, min(1 << 20, stop - at)) for at in range(start, stop, 1 << 20))
    return any(os.pread(file.fileno(), size, at).strip(b'\0') for at, size in pieces)


@dataclass
class _Sample:
    """The members of one key: what :class:`ShardIndex` holds of a sample."""

    places: list[tuple[int, int]] = field(default_factory=lambda: [(0, -1)] * len(KINDS))
    name: str = ''  # empty: there is no image
    label: int = -1
    captioned: int = 0


class _Scan:
    """What is known of a shard while it is read."""

    def __init__(self, caption_key: str) -> None:
        self.caption_key, self.faults = caption_key, list[str]()
        self.samples = defaultdict[str, _Sample](_Sample)  # by key
        self.refused = defaultdict[str, list[str]](list)  # names by reason
        self.others = Counter[str]()  # by suffix

    def add(self, file: io.FileIO, member: tarfile.TarInfo) -> None:
        if member.isdir():
            return
        folder, base = posixpath.split(member.name)
        stem, _, suffix = base.partition('.')
        suffix = suffix.lower()
        kind = 'image' if suffix in IMAGES else suffix
        reason = self._why_not(member, kind)
        if not reason and (is_hidden(base) or kind not in KINDS):
            self.others[suffix] += 1
        elif not reason:
            reason = self._place(file, member, self.samples[posixpath.join(folder, stem)], kind)
        if reason:
            self.refused[reason].append(member.name)

    def _why_not(self, member: tarfile.TarInfo, kind: str) -> str | None:
        if not member.isreg() or member.issparse():
            return 'are links, devices or sparse'
        if member.name.startswith('/') or '..' in member.name.split('/'):
            return 'have paths that leave the archive'
        limit = MAX_MEMBER if kind == 'image' else MAX_TEXT
        if kind in KINDS and member.size > limit:
            return f'are larger than {limit >> 20} MiB'
        return 'are empty images' if kind == 'image' and not member.size else None

    def _place(self, file: io.FileIO, member: tarfile.TarInfo, sample: _Sample, kind: str) -> str | None:
        """Add a member to its sample, or return why not."""
        column = KINDS.index(kind)
        if sample.places[column][1] >= 0:
            return 'repeat a key, of which the first counts'
        content = b'' if kind == 'image' else os.pread(file.fileno(), member.size, member.offset_data)
        try:
            if kind == 'image':
                sample.name = member.name
            elif kind == 'cls':
                sample.label = label_of(content)
            else:
                texts = texts_of(kind, content, caption_key=self.caption_key)
                if kind == 'json' or not self.caption_key:
                    sample.captioned = 1 if texts or sample.captioned == 1 else 2
        except (ValueError, RecursionError):
            return f'are no {kind}'
        sample.places[column] = (member.offset_data, member.size)
        return None

    def index(self, stamp: str) -> ShardIndex:
        samples = [sample for sample in self.samples.values() if sample.name]
        if lonely := [key for key, sample in self.samples.items() if not sample.name]:
            self.refused['have no image'] = lonely
        for reason, names in self.refused.items():
            self.faults.append(f'{len(names)} of its members or keys {reason}, such as {names[0]}')
        if not samples and not self.faults:
            others = ', '.join(f'{count} .{suffix}' for suffix, count in self.others.most_common(3))
            expected = f'{", ".join(IMAGES)} with txt, json, cls'
            self.faults.append(f'holds no sample ({expected}), but {others or "nothing"}')
        encoded = [sample.name.encode('utf-8', 'surrogateescape') for sample in samples]
        return ShardIndex(
            stamp,
            self.faults,
            np.array([sample.places for sample in samples], np.int64).reshape(-1, len(KINDS), 2),
            np.frombuffer(b''.join(encoded), np.uint8),
            np.cumsum([len(name) for name in encoded], dtype=np.int64),
            np.array([sample.label for sample in samples], np.int32),
            np.array([sample.captioned for sample in samples], np.uint8),
            caption_key=self.caption_key,
        )


def label_of(value: Any) -> int:
    """Return a class number; ValueError if it is none."""
    label = int(value)
    if not 0 <= label <= MAX_LABEL:
        raise ValueError(f'{label} is no class number')
    return label


def texts_of(kind: str, content: bytes, split_lines: bool = True, caption_key: str = '') -> list[str]:
    """Return the captions that are not empty of a ``txt`` or ``json`` member.

    A JSON object's are its ``caption_key``, text or a list; without a key its ``caption``, or else
    ``captions``, ``text`` or ``texts``.
    """
    text = decode_text(content)
    if kind == 'txt':
        return lines_of(text, split_lines)
    value = json.loads(text)
    if isinstance(value, dict):
        keys = (caption_key,) if caption_key else ('caption', 'captions', 'text', 'texts')
        value = next((value[key] for key in keys if value.get(key)), None)
    return [caption for caption in captions_in(value) if caption]
