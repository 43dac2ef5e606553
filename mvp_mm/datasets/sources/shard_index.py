"""Where the samples of a tar shard lie: found once, and kept in a file."""

import io
import json
import os
import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ...text.decode import decode_text
from .captioned_source import captions_in, lines_of
from .image_files import is_hidden
from .whole_file import whole_file

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


class _Headers(io.FileIO):
    """A shard for tarfile, which would take as much memory as the header of a long name asks for."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_TEXT:
            raise tarfile.ReadError(f'a header of {size:,} bytes')
        return super().read(size) or b''


@dataclass
class ShardIndex:
    """The samples of a shard. The arrays of an index that was read are mapped, and shared by processes.

    Args:
        stamp: What the shard was like: its size in bytes, and its time, or a remote one's version.
        faults: What is wrong with it, a sentence each.
        places: Offset and size in bytes of the members of each sample, int64 ``(N, 4, 2)``, in the order of
            ``KINDS``; size -1: there is none.
        names: Bytes of the images' names, one after another, uint8.
        name_ends: Where each ends, int64 ``(N,)``.
        labels: Of the samples, int32 ``(N,)``; -1: none.
        captioned: Whether there is a text that is not empty, uint8 ``(N,)``; 2: there is an empty one.
        sha256: Digest of the shard, if whoever wrote it noted it; else ``''``.
        caption_key: See :func:`texts_of`; what ``captioned`` is about.
        path: The file it was read from, if any.
    """

    stamp: str
    faults: list[str]
    places: np.ndarray
    names: np.ndarray
    name_ends: np.ndarray
    labels: np.ndarray
    captioned: np.ndarray
    sha256: str = ''
    caption_key: str = ''
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __reduce__(self) -> Any:
        if self.path is not None:  # loader workers that are not forked map the file again
            return read_index, (self.path,)
        arrays = (getattr(self, name) for name in ARRAYS)
        return ShardIndex, (self.stamp, self.faults, *arrays, self.sha256, self.caption_key)

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
        texts = dict(stamp=self.stamp, sha256=self.sha256, caption_key=self.caption_key)
        metadata = dict(texts, version=VERSION, faults=json.dumps(self.faults))
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
            arrays = [file.get_tensor(name).numpy() for name in ARRAYS]
        texts = {name: metadata.get(name, '') for name in ('sha256', 'caption_key')}
        found = ShardIndex(metadata['stamp'], json.loads(metadata['faults']), *arrays, **texts)
        found.path = path
        return found
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
    size = 0
    try:
        with path.open('rb') as file:
            state = os.fstat(file.fileno())
            size, stamp = state.st_size, stamp or local_stamp(state)
            for member in _members(path, file, size, scan.faults):
                scan.add(file, member)
    except OSError as error:
        scan.faults.append(f'{UNREAD}: {error.strerror or error}')
    return scan.index(stamp or f'{size} 0')


def _members(path: Path, file: BinaryIO, size: int, faults: list[str]) -> Iterator[tarfile.TarInfo]:
    """Yield the members whose bytes are all there; go on after a damaged place if there is a header."""
    if not size:
        faults.append('is empty')
        return
    position = 0
    try:
        with _Headers(path) as headers, tarfile.open(fileobj=headers, mode='r:') as tar:
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
        no_tar = f'is no plain tar file, it begins with {start!r}: {_advice(start)}'
        faults.append(f'is truncated or damaged after byte {position:,}: {error}' if position else no_tar)
        return
    if position >= size:
        faults.append('has no end: it may be truncated between two members')
    elif _has_content(file, position, size):
        cut = f'is truncated in a header, at byte {size:,}'
        faults.append(cut if size - position < 512 else f'is damaged from byte {position:,} to its end')


def _advice(start: bytes) -> str:
    for magic, tool in PACKED:
        if start.startswith(magic):
            return f'unpack it with {tool}'
    return 'download it again, or delete it'


def _has_content(file: BinaryIO, start: int, stop: int) -> bool:
    """Whether a part of a file has bytes other than zero."""
    for at in range(start, stop, 1 << 20):
        if os.pread(file.fileno(), min(1 << 20, stop - at), at).strip(b'\0'):
            return True
    return False


@dataclass
class _Scan:
    """What is known of a shard while it is read."""

    caption_key: str
    faults: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)  # by key
    places: list[list[tuple[int, int]]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    captioned: list[list[int]] = field(default_factory=list)  # of txt and json
    refused: dict[str, list[str]] = field(default_factory=dict)  # names by reason
    others: Counter = field(default_factory=Counter)

    def add(self, file: BinaryIO, member: tarfile.TarInfo) -> None:
        if member.isdir():
            return
        folder, base = posixpath.split(member.name)
        stem, _, suffix = base.partition('.')
        suffix = suffix.lower()
        kind = 'image' if suffix in IMAGES else suffix
        reason = self._why_not(member, kind)
        if reason:
            self.refused.setdefault(reason, []).append(member.name)
        elif is_hidden(base) or kind not in KINDS:
            self.others[suffix] += 1
        else:
            self._place(file, member, posixpath.join(folder, stem), KINDS.index(kind))

    def _why_not(self, member: tarfile.TarInfo, kind: str) -> str | None:
        if not member.isreg() or member.issparse():
            return 'are links, devices or sparse'
        if member.name.startswith('/') or '..' in member.name.split('/'):
            return 'have paths that leave the archive'
        limit = MAX_MEMBER if kind == 'image' else MAX_TEXT
        if kind in KINDS and member.size > limit:
            return f'are larger than {limit >> 20} MiB'
        if kind == 'image' and not member.size:
            return 'are empty images'
        return None

    def _place(self, file: BinaryIO, member: tarfile.TarInfo, key: str, column: int) -> None:
        row = self.rows.setdefault(key, len(self.rows))
        if row == len(self.places):
            self.places.append([(0, -1)] * len(KINDS))
            self.names.append('')
            self.labels.append(-1)
            self.captioned.append([0, 0])
        if self.places[row][column][1] >= 0:
            self.refused.setdefault('repeat a key, of which the first counts', []).append(member.name)
            return
        self.places[row][column] = (member.offset_data, member.size)
        if column == 0:
            self.names[row] = member.name
            return
        content = os.pread(file.fileno(), member.size, member.offset_data)
        try:
            if KINDS[column] == 'cls':
                self.labels[row] = label_of(content)
            else:
                texts = texts_of(KINDS[column], content, caption_key=self.caption_key)
                if KINDS[column] == 'json' or not self.caption_key:
                    self.captioned[row][column - 1] = 1 if texts else 2
        except (ValueError, RecursionError):
            self.places[row][column] = (0, -1)
            self.refused.setdefault(f'are no {KINDS[column]}', []).append(member.name)

    def index(self, stamp: str) -> ShardIndex:
        rows = [row for row, places in enumerate(self.places) if places[0][1] >= 0]
        if len(rows) < len(self.places):
            self.refused['have no image'] = [key for key, row in self.rows.items() if not self.names[row]]
        for reason, names in self.refused.items():
            self.faults.append(f'{len(names)} of its members or keys {reason}, such as {names[0]}')
        if not rows and not self.faults:
            others = ', '.join(f'{count} .{suffix}' for suffix, count in self.others.most_common(3))
            expected = f'{", ".join(IMAGES)} with txt, json, cls'
            self.faults.append(f'holds no sample ({expected}), but {others or "nothing"}')
        encoded = [self.names[row].encode('utf-8', 'surrogateescape') for row in rows]
        captioned = [next((c for c in (1, 2) if c in self.captioned[row]), 0) for row in rows]
        return ShardIndex(
            stamp,
            self.faults,
            np.array([self.places[row] for row in rows], np.int64).reshape(-1, len(KINDS), 2),
            np.frombuffer(b''.join(encoded), np.uint8),
            np.cumsum([len(name) for name in encoded], dtype=np.int64),
            np.array([self.labels[row] for row in rows], np.int32),
            np.array(captioned, np.uint8),
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
