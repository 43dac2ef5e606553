"""When ``torch.compile`` is used, and for what."""

import logging
import shutil
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.utils._triton import has_triton

CHOICES = ('auto', True, False)


def require_choice(choice: bool | str, name: str) -> None:
    """Check a ``compile_...`` option.

    Raises:
        ValueError: If it is none of ``CHOICES``.
    """
    if choice not in CHOICES:
        raise ValueError(f"{name}={choice!r} is none of 'auto', True, False")


def compiles(choice: bool | str, tensor: Tensor, training: bool) -> bool:
    """Whether a function of this tensor is to run compiled now.

    Args:
        choice: True: always; False: never; ``'auto'``: on CUDA while training, whose batches have one shape
            (each other shape is another compilation), if this machine can compile; but not where torch is to
            be deterministic, since the compiler chooses among its kernels by their time.
        tensor: An input.
        training: Whether the module is in training mode.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False  # part of a larger graph
    if choice != 'auto':
        return bool(choice)
    return training and tensor.is_cuda and not torch.are_deterministic_algorithms_enabled() and can_compile()


@cache
def can_compile() -> bool:
    """Whether this machine has what ``torch.compile`` needs for CUDA; if not, say once what is missing."""
    if not has_triton():
        missing = 'Triton or a GPU that it supports'
    elif shutil.which('cc') is None and shutil.which('gcc') is None and shutil.which('clang') is None:
        missing = 'a C compiler (cc, gcc or clang)'
    elif not (Path(sysconfig.get_paths()['include']) / 'Python.h').is_file():
        missing = "Python's headers (Debian, Ubuntu: package python3-dev)"
    else:
        return True
    print_log(
        f'Blocks are not compiled: this machine lacks {missing}. Training runs all the same, but slower',
        'current',
        level=logging.WARNING,
    )
    return False


@cache
def compiled(function: Callable) -> Callable:
    """``function`` compiled at its first call; one for all who ask for it."""
    return torch.compile(function)
