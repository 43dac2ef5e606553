"""Write tar shards of images with texts, and check those that are there."""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout
from PIL import Image
from rich.progress import track

from ...whole_file import whole_file
from ..samplers.epoch_sampler import epoch_order
from ..sources.captioned_source import CaptionedSource
from ..sources.image_text_list import ImageTextList
from ..sources.shard_files import find_shards, is_remote
from ..sources.shard_index import IMAGES, SUFFIX, scan_shard
from ..transforms.decode_image import UnreadableImageError, decode_image
from .download import file_digests
from .find_unreadable import check_image, map_in_workers

CHECKSUM = re.compile(r'([0-9a-f]{64}) [ *](.+)')  # a line of sha256sum
PIECE = 1 << 20  # bytes to write at a time
PATIENCE = 20  # seconds for another process to end: workers outlive one that was killed by some
ADVICE = 'free some space, and call again: what is written is kept'


def write_shards(
    source: CaptionedSource | str | Path,
    out: str | Path,
    prefix: str = 'train',
    per_shard: int = 1000,
    shuffle: bool = True,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    **options: Any,
) -> list[Path]:
    """Write the samples of a source into ``<out>/<prefix>-NNNN.tar``, with an index and a checksum each.

    Files are copied as they are; formats other than JPEG, PNG and WebP become PNG. A sample with one text has
    a ``txt``, with several a ``json``, with a label a ``cls``. Called again after an interruption, it writes
    what is missing; the same source always makes the same bytes.

    Args:
        source: Source, or the folder or list for :class:`ImageTextList`.
        out: Folder, which is made.
        prefix: Of the names, such as ``'val'``, also of ``<prefix>.sha256`` (for ``sha256sum -c``),
            ``<prefix>.left_out.txt`` (unreadable images) and ``<prefix>.classes.txt`` (if there are some).
        per_shard: Samples a shard. Default 1000; shards of 100 MB to 1 GB suit most disks and networks.
        shuffle: Shuffle the samples. Default True: a shard is then a fair part of the whole.
        seed: Of the order.
        workers: Processes. Default: one a core.
        progress: Show a progress bar.
        **options: Of :class:`ImageTextList`.

    Returns:
        All shards.

    Raises:
        OSError: If the disk is full, or another process writes there.
        ValueError: If ``out`` holds shards of another source or division, or of other classes.
    """
    if per_shard < 1:
        raise ValueError(f'per_shard={per_shard}: expected 1 sample or more')
    if not isinstance(source, CaptionedSource):
        splits = [name for name in ('train', 'val') if (Path(source).expanduser() / name).is_dir()]
        if options.get('class_folders') and len(splits) == 2:  # and no classes of these names
            raise ValueError(
                f'{source} holds the splits {", ".join(splits)}: give one of them, such as '
                f'{Path(source) / splits[0]}, and the other with --prefix {splits[1]}'
            )
        source = ImageTextList(str(source), split='', **options)
    out = Path(out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    beside = [out / f'{prefix}.{end}' for end in ('plan.json', 'classes.txt', 'sha256', 'left_out.txt')]
    plan, names, sums, left_out = beside
    starts = range(0, len(source), per_shard)
    digits = max(4, len(str(len(starts) - 1)))
    paths = [out / f'{prefix}-{number:0{digits}d}.tar' for number in range(len(starts))]
    order = epoch_order(len(source), shuffle, seed, 0)
    try:
        with FileLock(out / f'.{prefix}.lock', timeout=PATIENCE):
            if source.classes is not None:
                _require_one_numbering(out, prefix, source.classes)
            _require_plan(plan, source, per_shard, shuffle, seed)
            numbered = f'{prefix}-{"[0-9]" * digits}.tar*'  # none of a prefix that begins with this one
            for name in (numbered, *(f'{file.name}.*' for file in beside)):
                for stale in out.glob(f'.{name}.partial'):
                    stale.unlink(missing_ok=True)  # its writer may be about to end
            if source.classes is not None:
                with whole_file(names, ADVICE) as temporary:
                    temporary.write_text(''.join(f'{name}\n' for name in source.classes))
            done = read_checksums(sums)
            shards = [(path, order[at : at + per_shard], at) for path, at in zip(paths, starts, strict=True)]
            todo = [shard for shard in shards if shard[0].name not in done or not shard[0].is_file()]
            unread = _read_left_out(left_out, done.keys() - {path.name for path, _, _ in todo})
            written = map_in_workers(partial(_write_shard, source), todo, workers, chunk=1)
            for name, sha256, lost in track(written, 'Writing', len(todo), disable=not progress):
                done[name] = sha256
                if lost:  # written first: without its checksum, the shard is written again
                    unread += [f'{name}\t{line}\n' for line in lost]
                    with whole_file(left_out, ADVICE) as temporary:
                        temporary.write_text(''.join(unread), errors='surrogateescape')
                with whole_file(sums, ADVICE) as temporary:
                    temporary.write_text(''.join(f'{sha}  {name}\n' for name, sha in sorted(done.items())))
    except Timeout as error:
        raise OSError(f'another process writes {prefix} shards to {out}: wait for it') from error
    return paths


def read_checksums(path: Path) -> dict[str, str]:
    """Return name to sha256 of a file as sha256sum writes it; a last line that was cut off is passed over."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return {match[2]: match[1] for line in lines if (match := CHECKSUM.fullmatch(line))}


def _read_left_out(path: Path, shards: Set[str]) -> list[str]:
    """Return the lines of these shards, and leave only them in the file: the others are written anew."""
    if not path.is_file():
        return []
    lines = path.read_text(errors='surrogateescape').splitlines(keepends=True)  # names need be no text
    kept = [line for line in lines if line.partition('\t')[0] in shards]
    if not kept:
        path.unlink()
    elif kept != lines:
        with whole_file(path, ADVICE) as temporary:
            temporary.write_text(''.join(kept), errors='surrogateescape')
    return kept


def check_shards(
    data_root: str, decode: bool = False, workers: int | None = None, progress: bool = True
) -> tuple[dict[str, list[str]], int]:
    """Read shards: their structure, the checksums beside them, and with ``decode`` every image.

    Args:
        data_root: Shards of this machine, as :class:`ImageTextShards` takes them.
        decode: Decode the images.
        workers: Processes. Default: one a core.
        progress: Show a progress bar.

    Returns:
        The faults of each shard that has some, and the number of samples.
    """
    shards = find_shards(data_root)
    if any(map(is_remote, shards)):
        raise ValueError(f'{data_root} is not on this machine: bring the shards here to check them')
    folders = sorted({Path(shard).parent for shard in shards})
    lists = [path for folder in folders for path in sorted(folder.glob('*.sha256'))]
    expected = {str(p.parent / name): sha for p in lists for name, sha in read_checksums(p).items()}
    faults = {}
    if Path(data_root).is_dir():  # a pattern may leave some out
        faults = {shard: ['is missing'] for shard in sorted(expected.keys() - set(shards))}
    checked = map_in_workers(partial(_check_shard, expected, decode), shards, workers, chunk=1)
    total = 0
    for shard, found, samples in track(checked, 'Checking', len(shards), disable=not progress):
        total += samples
        if found:
            faults[shard] = found
    return faults, total


def _require_plan(path: Path, source: CaptionedSource, per_shard: int, shuffle: bool, seed: int) -> None:
    """Keep a digest of what is written, or raise ValueError if another was begun here."""
    sha = hashlib.sha256()
    for index in range(len(source)):
        key, _, texts, label = source.record(index)
        sha.update(json.dumps([key, texts, label]).encode())
    plan = dict(samples=len(source), per_shard=per_shard, shuffle=shuffle, seed=seed, source=sha.hexdigest())
    if not path.is_file():
        with whole_file(path, ADVICE) as temporary:
            temporary.write_text(json.dumps(plan))
        return
    begun = json.loads(path.read_text())
    if other := [name for name, value in plan.items() if begun.get(name) != value]:
        raise ValueError(
            f'{path.parent} holds shards that were begun with another {", ".join(other)}: give the same, '
            f'choose another --prefix or --out, or delete them and {path.name}'
        )


def _require_one_numbering(out: Path, prefix: str, classes: Sequence[str]) -> None:
    """Raise ValueError if shards of another prefix number other classes."""
    for path in out.glob('*.classes.txt'):
        if path.name != f'{prefix}.classes.txt' and path.read_text().splitlines() != list(classes):
            raise ValueError(
                f'{path} has other classes than {prefix}: {", ".join(classes[:3])}, ... Both need the same '
                'ones, so that one number means one class; give every split a folder for each class, or '
                'choose another --out'
            )


def _write_shard(source: CaptionedSource, shard: tuple[Path, list[int], int]) -> tuple[str, str, list[str]]:
    """Write a shard of these rows, numbered from the last; return its name, its checksum, what it lacks."""
    path, rows, first = shard
    lost = list[str]()
    with whole_file(path, ADVICE) as temporary, temporary.open('wb') as file:
        hashed = _Hashed(file)
        # In tarfile's pieces of 10 KiB a shard lies in small pages of memory, and reads half as fast.
        with tarfile.open(fileobj=hashed, mode='w|', bufsize=PIECE) as tar:  # type: ignore[call-overload]
            for number, row in enumerate(rows, first):
                try:
                    members = list(_members(source, row))
                except (OSError, UnreadableImageError) as error:
                    lost.append(' '.join(str(error).split()))
                    continue
                for suffix, content in members:
                    info = tarfile.TarInfo(f'{number:09d}.{suffix}')
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    index = scan_shard(path)
    index.sha256 = hashed.sha256.hexdigest()
    index.save(Path(f'{path}{SUFFIX}'))
    return path.name, index.sha256, lost


class _Hashed:
    """A file for a tar stream, with the sha256 of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.sha256.update(content)
        return self.file.write(content)


def _members(source: CaptionedSource, row: int) -> Iterator[tuple[str, bytes]]:
    """Yield suffix and content of the members of a sample."""
    key, content, texts, label = source.record(row)
    if not isinstance(content, bytes):
        content = Path(content).read_bytes()
    if not content:
        raise UnreadableImageError(f'{key} is empty')
    suffix = key.rpartition('.')[2].lower()
    if suffix in ('jpe', 'jfif', 'mpo'):
        suffix = 'jpg'
    if suffix not in IMAGES:
        file = io.BytesIO()
        Image.fromarray(decode_image(content, key=key)).save(file, 'PNG')
        suffix, content = 'png', file.getvalue()
    yield suffix, content
    if len(texts) == 1:
        yield 'txt', texts[0].encode()
    elif texts:
        yield 'json', json.dumps(dict(captions=texts), ensure_ascii=False).encode()
    if label is not None:
        yield 'cls', str(label).encode()


def _check_shard(expected: dict[str, str], decode: bool, shard: str) -> tuple[str, list[str], int]:
    """Return a shard, its faults, and its number of samples."""
    index = scan_shard(Path(shard))
    faults, wanted = list(index.faults), expected.get(shard)
    if wanted is not None and (found := file_digests(Path(shard), 'sha256')['sha256']) != wanted:
        faults.append(f'has the sha256 {found}, expected {wanted}')
    if decode and len(index):
        with open(shard, 'rb') as file:
            for row in range(len(index)):
                offset, size = index.places[row, 0].tolist()
                file.seek(offset)
                if fault := check_image(index.name(row), file.read(size)).fault:
                    faults.append(f'has an image that cannot be read, {index.name(row)}: {fault}')
    return shard, faults, len(index)
