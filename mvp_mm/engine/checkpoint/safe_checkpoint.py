"""Training checkpoints that hold plain data only, are written atomically, and are verified.

MMEngine's hold log histories and numpy numbers, which torch loads only with ``weights_only=False``: that runs
whatever a file says. Here they are tensors and numbers in the file, and objects again in a resumed run.
"""

import collections
import logging
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from torch import Tensor

from ...weights.inert_pickle import history_as_plain
from ...weights.locate import local_path, named_last
from ...weights.read import first_line, read_checkpoint

PARTIAL = '.partial'
NUMBERED = re.compile(r'(epoch|iter)_(\d+)\.pth')
HISTORY_KEYS = history_as_plain(None, None, None).keys()


def make_plain(checkpoint: dict) -> None:
    """Convert everything in a checkpoint to plain data, in place, before it is saved."""
    left_out: list[str] = []
    checkpoint.update({key: _plain(value, key, left_out) for key, value in checkpoint.items()})
    if left_out:
        told = f'Left out of the checkpoint, which holds plain data only: {", ".join(left_out[:6])}'
        print_log(told, 'current', logging.WARNING)


def _plain(value: Any, where: str, left_out: list[str]) -> Any:
    """Convert a value recursively; what cannot be converted becomes None and is listed in ``left_out``."""
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return value
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        plain: dict = collections.OrderedDict() if isinstance(value, collections.OrderedDict) else {}
        for key, entry in value.items():
            plain[_plain(key, f'{where} (a key)', left_out)] = _plain(entry, f'{where}.{key}', left_out)
        if hasattr(value, '_metadata'):  # module versions of a state dict
            plain._metadata = _plain(value._metadata, where, left_out)  # type: ignore[attr-defined]
        return plain
    if isinstance(value, tuple | list | set | frozenset | collections.deque):
        entries = [_plain(entry, where, left_out) for entry in value]
        return tuple(entries) if isinstance(value, tuple) else entries
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
        if isinstance(value, kind):  # an enum's member
            return kind(value)
    if isinstance(value, os.PathLike | torch.dtype | torch.device):
        return str(value)
    left_out.append(f'{where} ({type(value).__name__})')
    return None


def load_checkpoint_file(source: str | Path, map_location: Any = 'cpu') -> dict:
    """Load a file or http(s) address for MMEngine, with ``HistoryBuffer``, without running code from it."""
    checkpoint = read_checkpoint(local_path(str(source)), map_location)
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{source} is no checkpoint: it holds a {type(checkpoint).__name__}, not a dict')
    meta = checkpoint.get('meta')
    if isinstance(meta, dict):
        meta.pop('config', None)  # MMEngine's `resume` would run it as a Python file
    hub = checkpoint.get('message_hub')
    scalars: Any = hub.get('log_scalars') if isinstance(hub, dict) else None
    for name, history in scalars.items() if isinstance(scalars, dict) else ():
        if not isinstance(history, dict) or history.keys() != HISTORY_KEYS:
            continue
        log, count, length = (history[key] for key in HISTORY_KEYS)
        both = isinstance(log, Tensor) and isinstance(count, Tensor)
        if not both or log.ndim != 1 or log.shape != count.shape or not isinstance(length, int):
            raise ValueError(f'{source} is damaged: the history of {name} is no two lists of equal length')
        scalars[name] = HistoryBuffer(log.cpu().numpy(), count.cpu().numpy(), length)
    return checkpoint


def register_safe_loading() -> None:
    """Replace the loader in which all of MMEngine's ways of loading end, whichever library asks."""

    def load_from_file(source: str | Path | BinaryIO, map_location: Any = None, **unused: Any) -> dict:
        if isinstance(source, str | Path):
            return load_checkpoint_file(source, map_location or 'cpu')
        with tempfile.NamedTemporaryFile(suffix='.pth') as file:  # downloaded from an object store
            file.write(source.read())
            file.flush()
            return load_checkpoint_file(file.name, map_location or 'cpu')

    mmengine_checkpoint.CheckpointLoader.register_scheme(
        prefixes=('', 'http://', 'https://'), loader=load_from_file, force=True
    )
    # loaders of other schemes (torchvision://, open-mmlab://, ...) end in these
    for name in ('load_from_local', 'load_from_http', '_safe_torch_load'):
        setattr(mmengine_checkpoint, name, load_from_file)


def require_training_state(checkpoint: dict, wanted: Sequence[str], source: str | Path) -> None:
    """Raise ValueError if a checkpoint lacks an entry that a resumed run needs."""
    missing = [key for key in wanted if not isinstance(checkpoint.get(key), dict)]
    if missing:
        raise ValueError(
            f'{source} has weights but no {", no ".join(missing)}, so training cannot go on from it: give an '
            f'epoch_*.pth or iter_*.pth, or begin a new run from it with --cfg-options load_from={source}'
        )
    counters = [checkpoint['meta'].get(key) for key in ('epoch', 'iter')] if 'meta' in wanted else []
    if not all(isinstance(counter, int) for counter in counters):
        raise ValueError(f'{source} does not say at which epoch and iteration it was saved')


def verify_checkpoint(path: Path) -> None:
    """Raise ValueError if a checkpoint is missing, cannot be read, or fails its checksums."""
    if not path.is_file():
        raise ValueError(f'there is no file {path}')
    is_zip = zipfile.is_zipfile(path)  # false before torch 1.6, and where the end is cut off
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


@contextmanager
def atomic_write(path: Path, verify: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; on exit it is flushed, verified and renamed to ``path``.

    Until then an existing file keeps its content, and a failed attempt leaves nothing behind. Raise OSError
    if the file cannot be written, or is no checkpoint when read back.
    """
    temporary = path.with_name(f'.{path.name}{PARTIAL}')
    try:
        yield temporary
        _flush(temporary)
        try:
            if verify:
                verify_checkpoint(temporary)
        except ValueError as error:
            raise OSError(f'{path} could not be read back after writing: {error}') from error
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Force a file's content, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def atomic_write_text(path: Path, text: str) -> None:
    """Write a small text file such as ``last_checkpoint``, whole or not at all."""
    with atomic_write(path, verify=False) as temporary:
        temporary.write_text(text, errors='surrogateescape')  # names of files need be no text


def saved_checkpoints(work_dir: str | Path) -> list[Path]:
    """List the checkpoints that a run could resume from, the last first.

    First what ``last_checkpoint`` names, even if it is gone, then those of its kind with lower numbers, then
    the other kind, as a run over epochs that was stopped has; without it all by age.
    """
    work_dir = Path(work_dir)
    last = named_last(work_dir)
    named = NUMBERED.fullmatch(last.name) if last else None
    found: list[tuple[float, int, Path]] = []
    for path in (last.parent if last and named and last.is_file() else work_dir).glob('*.pth'):
        match = NUMBERED.fullmatch(path.name)
        if match and named is None:
            found.append((path.stat().st_mtime, int(match[2]), path))
        elif match and named and (match[1] != named[1] or int(match[2]) < int(named[2])):
            found.append((match[1] == named[1], int(match[2]), path))
    others = [path for *_, path in sorted(found, reverse=True)]
    return [last, *others] if last else others
