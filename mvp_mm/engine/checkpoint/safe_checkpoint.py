"""Training checkpoints that hold nothing but plain data, are written whole or not at all, and are checked.

MMEngine's own checkpoints hold objects (the histories of its log, numpy's numbers), which torch loads only
when told to run whatever a file says. Here they are turned into tensors and numbers before saving, and back
when a run goes on.
"""

import collections
import logging
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from torch import Tensor

from ...weights.load import local_path
from ...weights.read import first_line, history_as_plain, read_checkpoint

PARTIAL = '.partial'
NUMBERED = re.compile(r'(epoch|iter)_(\d+)\.pth')
HISTORY_KEYS = history_as_plain(None, None, None).keys()


def make_plain(checkpoint: dict) -> None:
    """Turn everything in a checkpoint that is about to be saved into plain data, in place.

    Args:
        checkpoint: As MMEngine's runner builds it.
    """
    left_out: list[str] = []
    for key in list(checkpoint):
        checkpoint[key] = _plain(checkpoint[key], key, left_out)
    if left_out:
        print_log(
            'Left out of the checkpoint, which holds plain data only: ' + ', '.join(left_out[:6]),
            logger='current',
            level=logging.WARNING,
        )


def _plain(value: Any, where: str, left_out: list[str]) -> Any:
    """Tensors, containers, numbers and strings as they are; numpy's as Python's and torch's."""
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return value
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        ordered = isinstance(value, collections.OrderedDict)
        plain = collections.OrderedDict() if ordered else {}
        for key, entry in value.items():
            plain[_plain(key, f'{where} (a key)', left_out)] = _plain(entry, f'{where}.{key}', left_out)
        if hasattr(value, '_metadata'):  # of a state dict: the versions of its modules
            plain._metadata = _plain(value._metadata, where, left_out)
        return plain
    if isinstance(value, tuple):
        return tuple(_plain(entry, where, left_out) for entry in value)
    if isinstance(value, list | set | frozenset | collections.deque):
        return [_plain(entry, where, left_out) for entry in value]
    if isinstance(value, HistoryBuffer):
        log, count = (_plain(array, where, left_out) for array in value.data)
        return history_as_plain(log, count, value.max_length)
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf' and value.dtype.itemsize <= 8:
        return torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder('=')))
    if isinstance(value, np.floating):
        return float(value)
    if isinstance(value, np.generic | np.ndarray) and type(value.tolist()) is not type(value):
        return _plain(value.tolist(), where, left_out)
    for kind in (bool, int, float, str):
        if isinstance(value, kind):  # a subclass, such as an enumeration's
            return kind(value)
    if isinstance(value, os.PathLike | torch.dtype | torch.device):
        return str(value)
    left_out.append(f'{where} ({type(value).__name__})')
    return None


def load_checkpoint_file(source: str | Path, map_location: Any = 'cpu') -> dict:
    """A weight file or training checkpoint as MMEngine wants it; no code in it is run.

    Args:
        source: Path or http(s) address.
        map_location: As for ``torch.load``.

    Returns:
        What :func:`read_checkpoint` gives, with the histories of the log as MMEngine's objects.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file.
    """
    checkpoint = read_checkpoint(local_path(str(source)), map_location)
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{source} is no checkpoint: it holds a {type(checkpoint).__name__}, not a dict')
    meta = checkpoint.get('meta')
    if isinstance(meta, dict):
        meta.pop('config', None)  # MMEngine's `resume` would run it as a Python file
    hub = checkpoint.get('message_hub')
    scalars = hub.get('log_scalars') if isinstance(hub, dict) else None
    if isinstance(scalars, dict):
        for name, history in scalars.items():
            if isinstance(history, dict) and history.keys() == HISTORY_KEYS:
                scalars[name] = _history(history, name, source)
    return checkpoint


def require_training_state(checkpoint: dict, wanted: Sequence[str], source: str | Path) -> None:
    """Check that training can go on from a checkpoint.

    Args:
        checkpoint: From :func:`load_checkpoint_file`.
        wanted: Names of the entries that it needs.
        source: The file, for the message.

    Raises:
        ValueError: If one is missing.
    """
    missing = [key for key in wanted if not isinstance(checkpoint.get(key), dict)]
    if missing:
        raise ValueError(
            f'{source} has weights but no {", no ".join(missing)}, so training cannot go on from it: give a '
            'checkpoint that training saved (epoch_*.pth or iter_*.pth), or begin a new run from its weights '
            f'with --cfg-options load_from={source}'
        )
    counters = [checkpoint['meta'].get(key) for key in ('epoch', 'iter')] if 'meta' in wanted else []
    if not all(isinstance(counter, int) for counter in counters):
        raise ValueError(f'{source} does not say at which epoch and iteration it was saved')


def _history(plain: dict, name: str, source: str | Path) -> HistoryBuffer:
    log, count, length = (plain[key] for key in HISTORY_KEYS)
    both = isinstance(log, Tensor) and isinstance(count, Tensor)
    if not both or log.ndim != 1 or log.shape != count.shape or not isinstance(length, int):
        raise ValueError(f'{source} is damaged: the history of {name} is no two lists of equal length')
    return HistoryBuffer(log.cpu().numpy(), count.cpu().numpy(), length)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary name to write a checkpoint to; afterwards it is checked and takes its real name.

    Until then a file of the real name stays as it was. Nothing of a failed attempt is left.

    Args:
        path: The checkpoint.

    Yields:
        The temporary name, in the same folder.

    Raises:
        OSError: If the disk does not take it, or does not give back what was written.
    """
    temporary = path.with_name(f'.{path.name}{PARTIAL}')
    try:
        yield temporary
        _flush(temporary)
        try:
            verify_checkpoint(temporary)
        except ValueError as error:
            raise OSError(f'{path} could not be read back after writing: {error}') from error
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def _flush(path: Path) -> None:
    """To the disk: what is in a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def atomic_write_text(path: Path, text: str) -> None:
    """Write a small text file such as ``last_checkpoint``, whole or not at all."""
    temporary = path.with_name(f'.{path.name}{PARTIAL}')
    temporary.write_text(text)
    _flush(temporary)
    os.replace(temporary, path)


def verify_checkpoint(path: Path) -> None:
    """Read every byte of a checkpoint against its checksum, and its structure in torch's safe mode.

    Args:
        path: What ``torch.save`` wrote.

    Raises:
        ValueError: If it is damaged.
    """
    if not path.is_file():
        raise ValueError(f'there is no file {path}')
    is_zip = zipfile.is_zipfile(path)  # not so before torch 1.6, and where the end is cut off
    read_checkpoint(path, mmap=is_zip)
    if not is_zip:
        return
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise ValueError(f'{path} is damaged: {first_line(error)}') from error
    if broken is not None:
        raise ValueError(f'{path} is damaged: the checksum of {broken} is wrong')


def remove_partial(folder: Path) -> None:
    """Remove what runs that were killed while they wrote have left."""
    for path in folder.glob(f'.*{PARTIAL}'):
        path.unlink(missing_ok=True)


def saved_checkpoints(work_dir: str | Path) -> list[Path]:
    """The checkpoints of a run that it could go on from, the last first.

    Args:
        work_dir: Its folder.

    Returns:
        The file that ``last_checkpoint`` names (be it there or not), then the others of its kind with lower
        numbers, then those of the other kind (a run over epochs that was stopped in the middle of one has
        both); without ``last_checkpoint``, all numbered ones. Empty if there is nothing.
    """
    work_dir = Path(work_dir)
    pointer = work_dir / 'last_checkpoint'
    last = None
    if pointer.is_file():
        text = pointer.read_text(errors='replace').strip()
        last = Path(text) if text else None
        if last is not None and not last.is_file() and (work_dir / last.name).is_file():
            last = work_dir / last.name  # the folder was moved, or named relative to another one
    named = NUMBERED.fullmatch(last.name) if last is not None else None
    folder = last.parent if named and last.is_file() else work_dir
    found = []
    for path in folder.glob('*.pth'):
        match = NUMBERED.fullmatch(path.name)
        if not match:
            continue
        number = int(match[2])
        if named is None:
            found.append((path.stat().st_mtime, number, path))
        elif match[1] != named[1] or number < int(named[2]):
            found.append((match[1] == named[1], number, path))
    others = [path for *_, path in sorted(found, reverse=True)]
    return ([last] if last is not None else []) + others
