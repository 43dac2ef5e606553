"""Precision and determinism of validation and test, which have no gradients."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.runner import BaseLoop


@contextmanager
def evaluation_arithmetic() -> Iterator[None]:
    """Multiply float32 matrices in TF32 on CUDA, and warn of non-deterministic kernels instead of refusing.

    Convolutions use TF32 anyway; a precision that the user chose stays. mmseg's IoU counts with
    ``torch.histc``, which CUDA calls non-deterministic although counts are the same in any order.
    """
    precision = torch.get_float32_matmul_precision()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if torch.cuda.is_available() and precision == 'highest':
        torch.set_float32_matmul_precision('high')
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(deterministic, warn_only=warned_only)


def as_evaluation(loop: BaseLoop) -> BaseLoop:
    """Run a validation or test loop under :func:`evaluation_arithmetic`; changed in place, once."""
    if 'run' not in vars(loop):
        loop.run = evaluation_arithmetic()(loop.run)
    return loop
