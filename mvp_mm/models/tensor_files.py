"""Read the tensors of a weight file, and run nothing that it may contain.

A ``.pth`` file is a pickle, which can name any function to be called. torch's own safe mode refuses every
file that holds more than tensors, and MMEngine's checkpoints do (their log's numbers). So where safe mode
refuses, the file is read once more with every name but tensors' replaced by a placeholder that does nothing.
"""

import collections
import pickle
import types
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# All that rebuilding a tensor calls; torch finds the storage classes by itself.
ALLOWED = {
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch', 'Size'): torch.Size,
    ('torch._utils', '_rebuild_tensor_v2'): torch._utils._rebuild_tensor_v2,
    ('torch._utils', '_rebuild_parameter'): torch._utils._rebuild_parameter,
}
# Where training programs keep the weights in what they save.
CONTAINERS = ('state_dict', 'model', 'module')


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


class _TensorsOnlyUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return ALLOWED.get((module, name), _Placeholder)


_TENSORS_ONLY = types.SimpleNamespace(
    __name__=__name__,
    Unpickler=_TensorsOnlyUnpickler,
    load=lambda file, **kwargs: _TensorsOnlyUnpickler(file, **kwargs).load(),
)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which is code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(part.endswith('constants.pkl') for part in archive.namelist())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name.

    Args:
        path: safetensors, or what ``torch.save`` wrote: a state dict, or a training checkpoint that holds
            one as ``state_dict``, ``model`` or ``module``.

    Returns:
        Names, without DDP's ``module.``, and tensors on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file; nothing in it has been run.
    """
    if not path.is_file():
        raise FileNotFoundError(f'there is no weight file {path}')
    expected = 'expected safetensors, or tensors by name saved by torch.save'
    if is_torchscript(path):
        raise ValueError(f'{path} is a TorchScript archive, which is code: {expected}')
    try:
        weights = load_file(path) if path.suffix == '.safetensors' else _unpickled(path)
    except (pickle.UnpicklingError, SafetensorError, *_BROKEN) as error:
        raise ValueError(f'{path} is no plain weight file ({first_line(error)}): {expected}') from error
    for key in CONTAINERS:
        if isinstance(weights, dict) and isinstance(weights.get(key), dict):
            weights = weights[key]
    named = weights.items() if isinstance(weights, dict) else ()
    tensors = {str(name).removeprefix('module.'): value for name, value in named if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f'{path} is no plain weight file (no tensors by name in it): {expected}')
    return tensors


# What torch and pickle raise on bytes that are no pickle, or half of one.
_BROKEN = (RuntimeError, EOFError, ValueError, TypeError, AttributeError, LookupError, ImportError, OSError)


def _unpickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError:
        return torch.load(path, map_location='cpu', weights_only=False, pickle_module=_TENSORS_ONLY)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for quoting in another one."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip('.')
