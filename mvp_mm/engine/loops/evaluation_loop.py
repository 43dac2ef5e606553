"""How loops of validation and test compute, which have no gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps

import torch
from mmengine.runner import BaseLoop


@contextmanager
def tf32_products() -> Iterator[None]:
    """Let CUDA multiply float32 matrices in TF32, as it does in convolutions; afterwards as before."""
    before = torch.get_float32_matmul_precision()
    if not torch.cuda.is_available() or before != 'highest':
        yield
        return
    torch.set_float32_matmul_precision('high')
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def metrics_allowed() -> Iterator[None]:
    """Where torch has to be deterministic, let it warn of what is not instead of refusing it.

    Metrics count with ``torch.histc`` (mmseg's IoU), which CUDA calls not deterministic although counts are
    the same in any order.
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
    """Let a loop of validation or test compute as one: see :func:`tf32_products`, :func:`metrics_allowed`.

    Args:
        loop: Its ``run`` is changed, once.

    Returns:
        The loop.
    """
    if 'run' not in vars(loop):
        run = loop.run

        @wraps(run)
        def evaluate() -> dict:
            with tf32_products(), metrics_allowed():
                return run()

        loop.run = evaluate
    return loop
