"""Precision and determinism of validation and test, which have no gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps

import torch
from mmengine.runner import BaseLoop


@contextmanager
def tf32_products() -> Iterator[None]:
    """Let CUDA multiply float32 matrices in TF32, as it does in convolutions, unless the user chose."""
    before = torch.get_float32_matmul_precision()
    if torch.cuda.is_available() and before == 'highest':
        torch.set_float32_matmul_precision('high')
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def metrics_allowed() -> Iterator[None]:
    """Where torch must be deterministic, let it warn instead of refuse.

    mmseg's IoU counts with ``torch.histc``, which CUDA calls non-deterministic although counts are the same
    in any order.
    """
    if not torch.are_deterministic_algorithms_enabled():
        yield
        return
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=warned_only)


def as_evaluation(loop: BaseLoop) -> BaseLoop:
    """Run a validation or test loop under :func:`tf32_products` and :func:`metrics_allowed`.

    Args:
        loop: Changed in place, once.
    """
    if 'run' not in vars(loop):
        run = loop.run

        @wraps(run)
        def evaluate() -> dict:
            with tf32_products(), metrics_allowed():
                return run()

        loop.run = evaluate  # type: ignore[method-assign]
    return loop
