"""Read a weight file or a training checkpoint, and run nothing that it may contain.

A ``.pth`` file is a pickle, which can name any function to be called. torch's own safe mode refuses every
file that holds more than tensors and plain values, and the checkpoints of MMEngine's own runner do (their
log's numbers). So where safe mode refuses, the file is read once more with every name replaced by a stand-in
that calls nothing. The few stand-ins that keep what they are given (numpy's numbers and arrays, MMEngine's
histories of the log) are turned into plain values afterwards, by the code below; all others are left out.
"""

import ast
import collections
import pickle
import re
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

# Where training programs keep the weights in what they save.
CONTAINERS = ('state_dict', 'model', 'module')
# How the names of a vision transformer's patch embedding end, by which a file's transformers are found.
PATCH_EMBEDDINGS = (
    'patch_embed.projection.weight',  # mmpretrain, this package
    'patch_embed.proj.weight',  # BEiT, timm
    'patch_embeddings.projection.weight',  # transformers
    'patch_embedding.weight',  # transformers' CLIP
    'visual.conv1.weight',  # open_clip
)
# Where mmpretrain keeps the network that is used, beside a momentum encoder or another teacher.
BACKBONE = 'backbone.'
# How deep in a checkpoint weights are looked for.
DEPTH = 8
EXPECTED = 'expected safetensors, or tensors by name saved by torch.save'


class _Placeholder:
    """Stands for any object that is no tensor: takes every argument and state, and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> '_Placeholder':
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        return

    def __setstate__(self, state: Any) -> None:
        return

    def __call__(self, *args: Any, **kwargs: Any) -> '_Placeholder':
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        return

    def append(self, value: Any) -> None:
        """Ignore an entry."""

    def extend(self, values: Any) -> None:
        """Ignore entries."""


class _Kept(_Placeholder):
    """Keeps the arguments and the state that it is given, for :func:`_plain` to look at."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.state = args, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype(_Kept):
    """``numpy.dtype``: its state is (version, byte order, ...)."""

    def numeric(self) -> np.dtype | None:
        """The dtype, where it is one of plain numbers; None for every other."""
        code = self.args[0] if self.args else None
        if not isinstance(code, str) or not re.fullmatch(r'[<>|=]?(b1|[iu][1248]|f[248])', code):
            return None
        big = isinstance(self.state, tuple) and len(self.state) > 1 and self.state[1] == '>'
        return np.dtype(code).newbyteorder('>' if big else '=')


class _Scalar(_Kept):
    """``numpy.core.multiarray.scalar(dtype, bytes)``."""


class _Array(_Kept):
    """``numpy.core.multiarray._reconstruct``; its state is (version, shape, dtype, Fortran order, bytes)."""


class _History(_Kept):
    """MMEngine's ``HistoryBuffer``; its state is its attributes."""


def _latin1(text: Any, encoding: Any = None) -> bytes | None:
    """``_codecs.encode``, by which a pickle holds bytes."""
    return text.encode('latin1') if isinstance(text, str) and encoding == 'latin1' else None


def _no_bytes(*args: Any) -> bytes:
    """``bytes()``, by which a pickle holds empty bytes."""
    return b''


# All that is not a placeholder; torch finds the storage classes of tensors by itself.
STAND_INS = {
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch', 'Size'): torch.Size,
    ('torch._utils', '_rebuild_tensor_v2'): torch._utils._rebuild_tensor_v2,
    ('torch._utils', '_rebuild_parameter'): torch._utils._rebuild_parameter,
    ('_codecs', 'encode'): _latin1,
    ('__builtin__', 'bytes'): _no_bytes,
    ('numpy', 'dtype'): _Dtype,
    ('numpy.core.multiarray', 'scalar'): _Scalar,
    ('numpy._core.multiarray', 'scalar'): _Scalar,
    ('numpy.core.multiarray', '_reconstruct'): _Array,
    ('numpy._core.multiarray', '_reconstruct'): _Array,
    ('mmengine.logging.history_buffer', 'HistoryBuffer'): _History,
}


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return STAND_INS.get((module, name), _Placeholder)


_INERT = types.SimpleNamespace(
    __name__=__name__,
    Unpickler=_InertUnpickler,
    load=lambda file, **kwargs: _InertUnpickler(file, **kwargs).load(),
)


def _plain(value: Any) -> Any:
    """What an inert reading gave, with numpy's values as Python's and torch's, and no stand-in left.

    An entry of a dict whose value is a placeholder is left out, one of a list becomes None.
    """
    if isinstance(value, dict):
        items = {
            key: _plain(entry)
            for key, entry in value.items()
            if not isinstance(key, _Placeholder) and (isinstance(entry, _Kept) or not _is_inert(entry))
        }
        if not isinstance(value, collections.OrderedDict):
            return items
        ordered = collections.OrderedDict(items)
        metadata = getattr(value, '_metadata', None)  # of a state dict: the versions of its modules
        if isinstance(metadata, dict):
            ordered._metadata = _plain(metadata)
        return ordered
    if type(value) in (list, tuple):
        return type(value)(_plain(entry) for entry in value)
    if isinstance(value, _Scalar):
        array = _numbers((), *value.args[:2]) if len(value.args) >= 2 else None
        return None if array is None else array.item()
    if isinstance(value, _Array):
        array = _array(value)
        return None if array is None else torch.from_numpy(array)
    if isinstance(value, _History):
        state = value.state if isinstance(value.state, dict) else {}
        return history_as_plain(
            _plain(state.get('_log_history')), _plain(state.get('_count_history')), state.get('max_length')
        )
    return None if _is_inert(value) else value


def _is_inert(value: Any) -> bool:
    return isinstance(value, _Placeholder | type | types.FunctionType | types.BuiltinFunctionType)


def _array(value: _Array) -> np.ndarray | None:
    if not isinstance(value.state, tuple) or len(value.state) != 5:
        return None
    _, shape, dtype, fortran, content = value.state
    if not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
        return None
    array = _numbers(shape[::-1] if fortran else shape, dtype, content)
    return None if array is None else np.ascontiguousarray(array.T if fortran else array)


def _numbers(shape: tuple[int, ...], dtype: Any, content: Any) -> np.ndarray | None:
    numeric = dtype.numeric() if isinstance(dtype, _Dtype) else None
    if numeric is None or not isinstance(content, bytes):
        return None
    return np.frombuffer(content, numeric).reshape(shape).astype(numeric.newbyteorder('='))


def history_as_plain(log: Any, count: Any, max_length: Any) -> dict[str, Any]:
    """A history of the log as this package's checkpoints hold it: two tensors and a length."""
    return dict(log_history=log, count_history=count, max_length=max_length)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which is code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(part.endswith('constants.pkl') for part in archive.namelist())


def read_checkpoint(path: Path, map_location: Any = 'cpu', mmap: bool = False) -> Any:
    """Everything plain that a weight file or training checkpoint holds; nothing in it is run.

    Args:
        path: safetensors, or what ``torch.save`` wrote.
        map_location: As for ``torch.load``.
        mmap: As for ``torch.load``: leave the tensors on the disk until they are used.

    Returns:
        What was saved: tensors, containers, numbers and strings, and MMEngine's histories of the log as
        :func:`history_as_plain` says. Other objects are left out. Of safetensors, its tensors by name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file.
    """
    path = Path(path)
    if path.is_dir():
        raise FileNotFoundError(f'{path} is a folder: give a weight file in it')
    if not path.is_file():
        raise FileNotFoundError(f'there is no weight file {path}')
    try:
        if path.suffix == '.safetensors':
            tensors = collections.OrderedDict(load_file(path))
            tensors._metadata = {'': {'grid': read_metadata(path).get('grid')}}
            return tensors
        _require_torchs_mark(path)
        return _unpickled(path, map_location, mmap)
    except (pickle.UnpicklingError, SafetensorError, *_BROKEN) as error:
        raise ValueError(f'{path} is no plain weight file ({_reason(error)}): {EXPECTED}') from error


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself, in its own words; nothing of other files.

    Args:
        path: A weight file that :func:`read_tensors` reads.
    """
    if path.suffix != '.safetensors':
        return {}
    with safe_open(path, 'pt') as file:
        return file.metadata() or {}


def read_tensors(path: Path, prefix: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a weight file by name.

    Args:
        path: safetensors, or what ``torch.save`` wrote: a state dict, or a training checkpoint that holds
            one, whatever its key.
        prefix: See :func:`tensors_by_name`.

    Returns:
        See :func:`tensors_by_name`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, or holds several networks; nothing in it has been run.
    """
    return tensors_by_name(read_checkpoint(path), path, prefix)


def tensors_by_name(content: Any, source: Any, prefix: str | None = None) -> dict[str, Tensor]:
    """Find the weights in what :func:`read_checkpoint` returns.

    Weights lie in the one dict, at any key, that holds a vision transformer; where none does, in
    ``state_dict``, ``model`` or ``module``, or in the one dict that holds a network.

    Args:
        content: What was read.
        source: The file, for messages.
        prefix: Where the wanted weights lie, such as ``'teacher.'`` of ``{'student': ..., 'teacher': ...}``.
            Default None: there is only one place. Names of tensors may follow the key.

    Returns:
        Names, without ``module.`` of DDP and ``_orig_mod.`` of ``torch.compile``, and tensors. They begin
        with the dict's key only where ``prefix`` does. The patch grid of the positions is recorded beside
        them (see :func:`recorded_grid`) where the file tells it.

    Raises:
        ValueError: If there are no weights, or in several places of which ``prefix`` chooses none.
    """
    found = dict(_dicts_of_tensors(content)) if isinstance(content, dict) else {}
    place = _place_of_weights(content, found, source, dotted(prefix))
    kept = place if _choose(dotted(prefix), place) else ''
    tensors = {name: value for name, value in found[place].items() if isinstance(value, Tensor)}
    tensors = renamed(tensors, lambda name: kept + _unwrapped(name))
    metadata = getattr(found[place], '_metadata', None)
    for name, said in metadata.items() if isinstance(metadata, dict) else ():
        grid = as_grid(said.get('grid')) if isinstance(said, dict) else None
        if grid is not None:
            record_grid(tensors, grid, kept + _unwrapped(dotted(str(name))))
    _record_what_the_file_says(tensors, content)
    return tensors


def dotted(prefix: str | None) -> str:
    """A prefix of names as they have it: with a dot at its end, if there is any."""
    return f'{prefix.rstrip(".")}.' if prefix else ''


def renamed(weights: Mapping[str, Tensor], rename: Callable[[str], str]) -> collections.OrderedDict:
    """Rename weights; ``_metadata`` stays as it is.

    Args:
        weights: Tensors by name.
        rename: From the old name to the new one.
    """
    others = collections.OrderedDict((rename(str(name)), value) for name, value in weights.items())
    others._metadata = dict(getattr(weights, '_metadata', None) or {})
    return others


def recorded_grid(weights: Mapping[str, Tensor], prefix: str = '') -> tuple[int, int] | None:
    """Patch grid that a state dict records of the transformer at ``prefix``; None where it does not.

    :class:`MVPViT` records it as torch records the versions of modules, so that positions of as many
    patches in another grid are told apart.
    """
    metadata = getattr(weights, '_metadata', None) or {}
    return as_grid((metadata.get(prefix.removesuffix('.')) or {}).get('grid'))


def record_grid(weights: collections.OrderedDict, grid: tuple[int, int], prefix: str = '') -> None:
    """Write what :func:`recorded_grid` reads, where nothing is recorded yet."""
    if not hasattr(weights, '_metadata'):
        weights._metadata = {}
    weights._metadata.setdefault(prefix.removesuffix('.'), {}).setdefault('grid', grid)


def as_grid(value: Any) -> tuple[int, int] | None:
    """A patch grid from a pair, or from text such as ``'8x12'``; None of anything else."""
    if isinstance(value, str):
        value = [int(side) if side.isdecimal() else side for side in value.split('x')]
    if not isinstance(value, tuple | list) or len(value) != 2:
        return None
    rows, cols = value
    return (rows, cols) if all(isinstance(side, int) and side > 0 for side in value) else None


def require_finite(tensors: Mapping[str, Tensor], source: Any) -> None:
    """Refuse weights with NaN or infinite values.

    Args:
        tensors: The tensors of a file that are used, by name.
        source: The file, for the message.

    Raises:
        ValueError: Names the first such tensor, and says how many there are.
    """
    wrong = [
        name
        for name, value in tensors.items()
        if value.is_floating_point() and value.dtype.itemsize > 1 and not value.isfinite().all()
    ]
    if wrong:
        first = tensors[wrong[0]]
        raise ValueError(
            f'{source} has weights that are not finite: {int((~first.isfinite()).sum())} of the '
            f'{first.numel()} values of {wrong[0]} are NaN or infinite ({len(wrong)} such tensors of '
            f'{len(tensors)}). Its training diverged, or the file is damaged: take an earlier checkpoint'
        )


def _dicts_of_tensors(content: dict, place: str = '', depth: int = DEPTH) -> Iterator[tuple[str, dict]]:
    """Dicts that hold tensors, by the keys that lead there, each with a dot; none of an optimiser."""
    if any(isinstance(value, Tensor) for value in content.values()):
        yield place, content
    for key, value in content.items():
        if depth and isinstance(value, dict) and not str(key).startswith('optim'):
            yield from _dicts_of_tensors(value, f'{place}{key}.', depth - 1)


def _place_of_weights(content: Any, found: dict[str, dict], source: Any, prefix: str) -> str:
    """The key in ``found`` of the weights that are meant."""
    transformers = [
        place
        for place, tensors in found.items()
        if any(str(name).endswith(PATCH_EMBEDDINGS) for name in tensors)
    ]
    if 'state_dict.' in transformers:
        # MMEngine saves the averaged weights as `state_dict`, and here those that they are the average of.
        transformers = [place for place in transformers if place != 'ema_state_dict.']
    usual = ''
    for key in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content, usual = content[key], f'{usual}{key}.'
    networks = [place for place, tensors in found.items() if any('weight' in str(name) for name in tensors)]
    places = transformers or [place for place in found if place == usual] or networks
    if len(places) > 1:
        asked = [place for place in places if _choose(prefix, place)]
        places = asked if len(asked) == 1 else places
    if not places:
        raise ValueError(f'{source} is no plain weight file (no tensors by name in it): {EXPECTED}')
    if len(places) > 1:
        raise ValueError(several_networks(source, places, prefix))
    return places[0]


def _choose(prefix: str, place: str) -> bool:
    """Whether a prefix of names leads to a place, or into it."""
    return bool(prefix and place) and (prefix.startswith(place) or place.startswith(prefix))


def several_networks(source: Any, prefixes: list[str], asked: str) -> str:
    """Say that a file holds several networks, none at the prefix asked for, and how to choose one."""
    shown = ', '.join(prefix or "'' (the top)" for prefix in prefixes)
    none = f', and none under {asked}' if asked not in ('', BACKBONE) else ''
    return (
        f'{source} holds {len(prefixes)} networks, under the prefixes {shown}{none}: choose one '
        f'with model.backbone.init_cfg.prefix={prefixes[-1]} (tools/export.py: --prefix {prefixes[-1]}), or '
        'save the one that is wanted in a file of its own'
    )


def _unwrapped(name: str) -> str:
    return name.removeprefix('module.').removeprefix('_orig_mod.')


def _record_what_the_file_says(tensors: collections.OrderedDict, content: dict) -> None:
    """Record the patch grid of transformers that do not do so themselves.

    It is in a safetensors file's metadata if this package wrote it, and in the config that MMEngine's
    checkpoints hold as text.
    """
    ending = PATCH_EMBEDDINGS[0]  # of this package, and of mmpretrain, whose configs can be read
    starts = {name.removesuffix(end) for name in tensors for end in PATCH_EMBEDDINGS if name.endswith(end)}
    starts = [start for start in starts if recorded_grid(tensors, start) is None]
    grid = recorded_grid(tensors)
    meta = content.get('meta')
    if grid is None and isinstance(meta, dict) and any(f'{start}{ending}' in tensors for start in starts):
        grid = _grid_of_config(meta.get('cfg'))
    if grid is not None:
        for start in starts:
            record_grid(tensors, grid, start)


def _grid_of_config(text: Any) -> tuple[int, int] | None:
    """Patch grid of the backbone in a config; its text is parsed, and not run."""
    with suppress(*_BROKEN, SyntaxError, ArithmeticError):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.keyword) and node.arg == 'backbone' and isinstance(node.value, ast.Call):
                given = {keyword.arg: keyword.value for keyword in node.value.keywords}
                size, patch = (ast.literal_eval(given[key]) for key in ('img_size', 'patch_size'))
                sides = (size, size) if isinstance(size, int) else size
                return as_grid(tuple(-(-side // patch) for side in sides))
    return None


# What torch and pickle raise on bytes that are no pickle, or half of one.
_BROKEN = (
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ImportError,
    OSError,
    AssertionError,
    MemoryError,  # of lengths that were damaged
    OverflowError,
    zipfile.BadZipFile,
)


class _NotOurs(ValueError):
    """A file of another kind; its text says which."""


def _require_torchs_mark(path: Path) -> None:
    """Refuse code, and what begins neither as a zip archive nor as a pickle of protocol 2 or later."""
    with path.open('rb') as file:
        start = file.read(64)
    if not start:
        raise _NotOurs('it is empty')
    if start.startswith(b'PK') and is_torchscript(path):
        raise _NotOurs('it is a TorchScript archive, which is code')
    if start.startswith((b'PK', b'\x80')):
        return
    try:
        line = start.decode().splitlines()[0].strip()
    except UnicodeDecodeError:
        line = ''
    if line.isprintable() and line:
        raise _NotOurs(f'it is text that begins {line[:30]!r}')
    raise _NotOurs('it begins neither as a zip archive nor as a pickle')


def _unpickled(path: Path, map_location: Any, mmap: bool) -> Any:
    how = dict(map_location=map_location, mmap=mmap)
    try:
        return torch.load(path, weights_only=True, **how)
    except pickle.UnpicklingError:
        return _plain(torch.load(path, weights_only=False, pickle_module=_INERT, **how))


def _reason(error: BaseException) -> str:
    if isinstance(error, _NotOurs | SafetensorError):
        return str(error)
    # What these say is about the unpickler's inside ("101", "list index out of range").
    if isinstance(
        error, LookupError | TypeError | AttributeError | RecursionError | ImportError | MemoryError
    ):
        return 'it is damaged, or no file of torch.save'
    return f'it is damaged, cut off, or no file of torch.save: {first_line(error)}'


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for quoting in another one."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip('.')
