"""Unpickle what ``torch.save`` wrote without calling anything that the file names.

torch's own safe mode refuses training checkpoints: MMEngine's hold numpy numbers and histories of the log,
BEiT's and MAE's an ``argparse.Namespace``. Here each name in a pickle becomes a stand-in. numpy's values and
MMEngine's histories become plain values afterwards; the others are dropped.
"""

import collections
import pickle
import re
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

FUNCTIONS = type | types.FunctionType | types.BuiltinFunctionType


class _StandIn:
    """Any object that is neither tensor nor plain value: keeps its arguments and its state, does nothing."""

    args: tuple = ()
    state: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *args: Any, **kwargs: Any) -> '_StandIn':
        return self

    __setitem__ = append = extend = __call__

    def plain(self) -> Any:
        return None


class _Dtype(_StandIn):
    """``numpy.dtype``; its state is (version, byte order, ...)."""


class _Array(_StandIn):
    """``numpy.core.multiarray._reconstruct``; its state is (version, shape, dtype, Fortran order, bytes)."""

    def plain(self) -> torch.Tensor | None:
        known = isinstance(self.state, tuple) and len(self.state) == 5
        _, shape, dtype, fortran, content = self.state if known else [None] * 5
        if not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
            return None
        array = _numbers(shape, dtype, content, 'F' if fortran else 'C')
        return None if array is None else torch.from_numpy(np.ascontiguousarray(array))


class _History(_StandIn):
    """MMEngine's ``HistoryBuffer``; its state is its attributes."""

    def plain(self) -> dict[str, Any]:
        state: dict[str, Any] = self.state if isinstance(self.state, dict) else {}
        log, count, length = map(state.get, ('_log_history', '_count_history', 'max_length'))
        return history_as_plain(_plain(log), _plain(count), length)


def history_as_plain(log: Any, count: Any, max_length: Any) -> dict[str, Any]:
    """Return a history of the log as this package's checkpoints hold it: two tensors and a length."""
    return dict(log_history=log, count_history=count, max_length=max_length)


def _numbers(shape: tuple[int, ...], dtype: Any, content: Any, order: Any = 'C') -> np.ndarray | None:
    """Return an array of plain numbers; None for any other."""
    code = dtype.args[0] if isinstance(dtype, _Dtype) and dtype.args else None
    known = isinstance(code, str) and re.fullmatch(r'[<>|=]?(b1|[iu][1248]|f[248])', code)
    if not known or not isinstance(content, bytes):
        return None
    big = isinstance(dtype.state, tuple) and dtype.state[1:2] == ('>',)
    numeric = np.dtype(code).newbyteorder('>' if big else '=')
    return np.frombuffer(content, numeric).reshape(shape, order=order).astype(numeric.newbyteorder('='))


def _scalar(dtype: Any = None, content: Any = None) -> Any:
    """``numpy.core.multiarray.scalar``."""
    array = _numbers((), dtype, content)
    return None if array is None else array.item()


def _latin1(text: Any, encoding: Any = None) -> bytes | None:
    """``_codecs.encode``, by which a pickle holds bytes."""
    return text.encode('latin1') if isinstance(text, str) and encoding == 'latin1' else None


# Every other name is ignored; torch finds the storage classes of tensors by itself.
STAND_INS = {
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch', 'Size'): torch.Size,
    ('torch._utils', '_rebuild_tensor_v2'): torch._utils._rebuild_tensor_v2,
    ('torch._utils', '_rebuild_parameter'): torch._utils._rebuild_parameter,
    ('_codecs', 'encode'): _latin1,
    ('__builtin__', 'bytes'): lambda *args: b'',  # how a pickle holds empty bytes
    ('numpy', 'dtype'): _Dtype,
    ('numpy.core.multiarray', 'scalar'): _scalar,
    ('numpy.core.multiarray', '_reconstruct'): _Array,
    ('mmengine.logging.history_buffer', 'HistoryBuffer'): _History,
}


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return STAND_INS.get((module.replace('numpy._core', 'numpy.core'), name), _StandIn)


def load_inert(path: Path, **kwargs: Any) -> Any:
    """Read a file of ``torch.save`` with ``torch.load``'s arguments; nothing in it is run.

    numpy's values become Python's and torch's, histories of the log those of :func:`history_as_plain`. Other
    objects are left out of dicts, and None in lists.
    """
    inert = types.SimpleNamespace(
        __name__=__name__,
        Unpickler=_InertUnpickler,
        load=lambda file, **options: _InertUnpickler(file, **options).load(),
    )
    return _plain(torch.load(path, weights_only=False, pickle_module=inert, **kwargs))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        items = {
            key: _plain(entry)
            for key, entry in value.items()
            if not isinstance(key, _StandIn)
            and type(entry) is not _StandIn
            and not isinstance(entry, FUNCTIONS)
        }
        if not isinstance(value, collections.OrderedDict):
            return items
        ordered = collections.OrderedDict(items)
        if isinstance(getattr(value, '_metadata', None), dict):  # the versions of a state dict's modules
            ordered._metadata = _plain(value._metadata)  # type: ignore[attr-defined]
        return ordered
    if type(value) in (list, tuple):
        return type(value)(_plain(entry) for entry in value)
    if isinstance(value, _StandIn):
        return value.plain()
    return None if isinstance(value, FUNCTIONS) else value
