"""The matrix products of one MVP step and nothing else: no implementation of it can be faster.

Shape legend: B images, L tokens, C width, H heads.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

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
        All of them, repeated as often as they occur.
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


def _repeats(name: str, layers: int) -> int:
    return 1 if name in ('patch', 'out') else layers


def _forward(batch, width, layers, heads, *args) -> list[Gemm]:
    length, head = args[0] + 1, width // heads
    gemms = []
    for name, (rows, inputs, outputs) in _linears(batch, width, *args).items():
        gemms += [Gemm(rows, inputs, outputs, layout='nt')] * _repeats(name, layers)
    gemms += [Gemm(length, head, length, batch * heads, 'nt')] * layers
    gemms += [Gemm(length, length, head, batch * heads)] * layers
    return gemms


def _backward(batch, width, layers, heads, *args) -> list[Gemm]:
    length, head, pairs = args[0] + 1, width // heads, batch * heads
    gemms = []
    for name, (rows, inputs, outputs) in _linears(batch, width, *args).items():
        gemms += [Gemm(outputs, rows, inputs, layout='tn')] * _repeats(name, layers)
        if name != 'patch':  # pixels need no gradient
            gemms += [Gemm(rows, outputs, inputs)] * _repeats(name, layers)
    of_values = Gemm(length, length, head, pairs, 'tn')
    of_weights = Gemm(length, head, length, pairs, 'nt')
    of_queries, of_keys = Gemm(length, length, head, pairs), Gemm(length, length, head, pairs, 'tn')
    return gemms + [of_values, of_weights, of_queries, of_keys] * layers


def gemm_floor(gemms: list[Gemm], device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    """Something to call and time: all the products, one after another.

    Args:
        gemms: As of :func:`step_gemms`.
        device: Where.
        dtype: Of all factors and results.
    """
    counted = Counter(gemms)
    work = []
    for gemm, times in counted.items():
        left, right = _factors(gemm, device, dtype)
        out = torch.empty(_shape(gemm, gemm.rows, gemm.columns), device=device, dtype=dtype)
        product = torch.mm if gemm.batch == 1 else torch.bmm
        work.append((product, left, right, out, times))

    def run() -> None:
        for product, left, right, out, times in work:
            for _ in range(times):
                product(left, right, out=out)

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
