"""When to use ``torch.compile``."""

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


def require_choice(choice: bool | str | None, name: str, choices: tuple = ('auto', True, False)) -> None:
    """Raise a ValueError if an option, as of ``compile_...``, is none of its choices."""
    if choice not in choices:
        raise ValueError(f'{name}={choice!r} is none of {", ".join(map(repr, choices))}')


def compiles(choice: bool | str, tensor: Tensor, training: bool) -> bool:
    """Return whether to run a module's function of this tensor compiled.

    ``'auto'``: on CUDA while training, if this machine can compile. Evaluation's many shapes would each be
    compiled anew, and under deterministic algorithms the compiler's choice of kernels by speed is unwanted.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False  # part of a larger graph
    if choice != 'auto':
        return bool(choice)
    return training and tensor.is_cuda and not torch.are_deterministic_algorithms_enabled() and can_compile()


@cache
def can_compile() -> bool:
    """Return whether this machine can ``torch.compile`` for CUDA; if not, log once what is missing."""
    if not has_triton():
        missing = 'Triton or a GPU that it supports'
    elif not any(map(shutil.which, ('cc', 'gcc', 'clang'))):
        missing = 'a C compiler (cc, gcc or clang)'
    elif not (Path(sysconfig.get_paths()['include']) / 'Python.h').is_file():
        missing = "Python's headers (Debian, Ubuntu: package python3-dev)"
    else:
        return True
    told = f'Blocks are not compiled: this machine lacks {missing}. Training runs all the same, but slower'
    print_log(told, 'current', level=logging.WARNING)
    return False


@cache
def compiled(function: Callable) -> Callable:
    """Return ``function`` compiled, the same one for all callers, anew for each shape.

    The second shape would otherwise make all later calls, those of the first shape too, use slower kernels
    for any shape: RILS encodes whole images and visible patches in turns.
    """
    # DDP's buckets would cut a function in two; blocks are small enough already.
    torch._dynamo.config.optimize_ddp = False
    return torch.compile(function, dynamic=False)
