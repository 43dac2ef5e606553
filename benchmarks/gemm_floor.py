"""The matrix products of one MVP step and nothing else: no implementation of it can be faster.

Shape legend: B images, L tokens, C width, H heads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch


@dataclass(frozen=True)
class Gemm:
    """``(rows, inner) @ (inner, columns)``, ``batch`` times.

    Args:
        rows: Of the result.
        inner: Summed over.
        columns: Of the result.
        batch: Products at once.
        layout: Which factor lies transposed in memory: ``'nn'`` none, ``'nt'`` the second (a linear layer's
            weight, keys), ``'tn'`` the first (a weight's gradient).
    """

    rows: int
    inner: int
    columns: int
    batch: int = 1
    layout: str = 'nn'

    @property
    def flops(self) -> int:
        """A multiplication and an addition are two."""
        return 2 * self.batch * self.rows * self.inner * self.columns


def step_gemms(
    batch: int,
    student: tuple[int, int, int],
    teacher: tuple[int, int, int] = (768, 12, 12),
    num_patches: int = 196,
    patch_values: int = 768,
    target_width: int = 512,
) -> list[Gemm]:
    """The products of one step: the teacher forward, the student forward and backward.

    Args:
        batch: Images B.
        student: Width, layers, heads.
        teacher: Width, layers, heads. Default CLIP's ViT-B/16 (paper §3.3.3).
        num_patches: Default 196: 224 pixels by 16.
        patch_values: Numbers in a patch. Default 768: 16 * 16 * 3.
        target_width: Default 512 (paper, Eq. 7).

    Returns:
        All of them, in the order of a step.
    """
    args = (num_patches, patch_values, target_width)
    forward = _forward(batch, *teacher, *args) + _forward(batch, *student, *args)
    return forward + _backward(batch, *student, *args)


def _linears(batch, width, num_patches, patch_values, target_width) -> dict[str, tuple[int, int, int]]:
    """Rows, inputs and outputs of the linear layers."""
    tokens = batch * (num_patches + 1)
    return dict(
        patch=(batch * num_patches, patch_values, width),
        qkv=(tokens, width, 3 * width),
        proj=(tokens, width, width),
        fc1=(tokens, width, 4 * width),
        fc2=(tokens, 4 * width, width),
        out=(tokens, width, target_width),
    )


def _forward(batch, width, layers, heads, *args) -> list[Gemm]:
    length, head = args[0] + 1, width // heads
    linear = {
        name: Gemm(rows, inputs, outputs, layout='nt')
        for name, (rows, inputs, outputs) in _linears(batch, width, *args).items()
    }
    logits = Gemm(length, head, length, batch * heads, 'nt')
    values = Gemm(length, length, head, batch * heads)
    layer = [linear['qkv'], logits, values, linear['proj'], linear['fc1'], linear['fc2']]
    return [linear['patch'], *layer * layers, linear['out']]


def _backward(batch, width, layers, heads, *args) -> list[Gemm]:
    length, head, pairs = args[0] + 1, width // heads, batch * heads
    linear = {
        name: [Gemm(rows, outputs, inputs), Gemm(outputs, rows, inputs, layout='tn')]
        for name, (rows, inputs, outputs) in _linears(batch, width, *args).items()
    }
    of_weights, of_values = Gemm(length, head, length, pairs, 'nt'), Gemm(length, length, head, pairs, 'tn')
    of_queries, of_keys = Gemm(length, length, head, pairs), Gemm(length, length, head, pairs, 'tn')
    attention = [of_weights, of_values, of_queries, of_keys]
    layer = [*linear['fc2'], *linear['fc1'], *linear['proj'], *attention, *linear['qkv']]
    return [*linear['out'], *layer * layers, linear['patch'][1]]  # pixels need no gradient


def gemm_floor(gemms: list[Gemm], device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    """Something to call and time: all the products, one after another.

    Products of one shape share their factors and their result. In the order of a step these have left the
    cache when their turn comes again, as those of the next layer were never in it.

    Args:
        gemms: As of :func:`step_gemms`, in the order of a step.
        device: Where.
        dtype: Of all factors and results.
    """
    work = {}
    for gemm in set(gemms):
        left, right = _factors(gemm, device, dtype)
        out = torch.empty(_shape(gemm, gemm.rows, gemm.columns), device=device, dtype=dtype)
        product = torch.mm if gemm.batch == 1 else torch.bmm
        work[gemm] = partial(product, left, right, out=out)

    def run() -> None:
        for gemm in gemms:
            work[gemm]()

    return run


def _factors(gemm: Gemm, device, dtype) -> tuple[torch.Tensor, torch.Tensor]:
    def made(rows: int, columns: int, transposed: bool) -> torch.Tensor:
        if transposed:
            return made(columns, rows, False).transpose(-2, -1)
        return torch.randn(_shape(gemm, rows, columns), device=device).mul_(0.02).to(dtype)

    left = made(gemm.rows, gemm.inner, gemm.layout == 'tn')
    return left, made(gemm.inner, gemm.columns, gemm.layout == 'nt')


def _shape(gemm: Gemm, rows: int, columns: int) -> tuple[int, ...]:
    return (rows, columns) if gemm.batch == 1 else (gemm.batch, rows, columns)
