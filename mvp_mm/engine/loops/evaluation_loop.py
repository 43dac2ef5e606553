"""Precision and determinism of validation and test, which have no gradients, and a look between batches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine.runner import BaseLoop

_look: list[Callable[[], None]] = []


@contextmanager
def between_batches(look: Callable[[], None]) -> Iterator[None]:
    """Within, let :func:`batch_done` call a function."""
    _look.append(look)
    try:
        yield
    finally:
        _look.remove(look)


def batch_done() -> None:
    """Say that an evaluator is done with a batch; every process must say so equally often."""
    for look in _look:
        look()


@contextmanager
def evaluation_arithmetic() -> Iterator[None]:
    """Multiply float32 matrices in TF32 on CUDA, and warn of non-deterministic kernels instead of refusing.

    Convolutions use TF32 anyway; a precision that the user chose stays. mmseg's IoU counts with
    ``torch.histc``, which CUDA calls non-deterministic although counts are the same in any order.
    """
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by torch.backends.fp32_precision, with which this API refuses to be mixed
        precision = ''
    deterministic = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if torch.cuda.is_available() and precision == 'highest':
        torch.set_float32_matmul_precision('high')
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    try:
        yield
    finally:
        if precision:
            torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(deterministic, warn_only=warned_only)


def as_evaluation(loop: BaseLoop) -> BaseLoop:
    """Run a validation or test loop under :func:`evaluation_arithmetic`; changed in place, once."""
    if 'run' not in vars(loop):
        loop.run = evaluation_arithmetic()(loop.run)
    return loop
