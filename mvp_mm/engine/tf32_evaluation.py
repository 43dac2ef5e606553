"""Validate and test in TF32 on CUDA; training has its own precision."""

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


def run_in_tf32(loop: BaseLoop) -> BaseLoop:
    """Let a loop of validation or test multiply in TF32.

    Args:
        loop: Its ``run`` is changed, once.

    Returns:
        The loop.
    """
    if 'run' not in vars(loop):
        run = loop.run

        @wraps(run)
        def in_tf32() -> dict:
            with tf32_products():
                return run()

        loop.run = in_tf32
    return loop
