"""Stage 2: every way to compute attention on the GPU, beside float64."""

from collections.abc import Callable

import torch
from torch import Tensor

from mvp_mm.models.backbones.attention import explicit_attention, fused_attention, self_attention

from .measure import BF16, CUDA, cosine, relative
from .report import Report

HEADS, WIDTH = 12, 64


def run(report: Report, scale: str) -> None:
    """Outputs and gradients at the lengths of 224 and 512 pixels."""
    torch.backends.cuda.matmul.allow_tf32 = False
    for length, batch in ((197, 16), (1025, 2)) if scale == 'full' else ((197, 1),):
        torch.manual_seed(length)
        qkv, bias, upstream = (
            torch.randn(shape, device=CUDA)
            for shape in (
                (batch, length, 3 * HEADS * WIDTH),
                (HEADS, length, length),
                (batch, length, HEADS * WIDTH),
            )
        )
        half = qkv.to(BF16)
        exact = _results(_explicit, *_exact(half, bias, upstream.to(BF16)))
        exact_half = exact
        ways = {'chosen for bf16': self_attention, "torch's fused": _fused, 'explicit': _explicit}
        for name, way in ways.items():
            found = _results(way, half, bias, upstream.to(BF16))
            _judge(report, f'{name}, {length} tokens', found, exact, (1e-2, 2e-2))
        with torch.no_grad():
            out = self_attention(half, HEADS, bias)
            plain = self_attention(half, HEADS, None)
        report.at_most(f'no gradient, {length} tokens: result', relative(out, exact[0]), 1e-2)
        alone = _explicit(half.cpu().double(), HEADS, torch.zeros_like(bias).cpu().double())
        report.at_most(f'no bias, {length} tokens: result', relative(plain, alone), 1e-2)
        again = _results(self_attention, half, bias, upstream.to(BF16))
        first = _results(self_attention, half, bias, upstream.to(BF16))
        same = all(torch.equal(a, b) for a, b in zip(again, first, strict=True))
        report.add(f'bf16, {length} tokens: the same bits twice', str(same), '', 'True', same)
        exact = _results(_explicit, *_exact(qkv, bias, upstream))
        found = _results(self_attention, qkv, bias, upstream)
        _judge(report, f'float32, {length} tokens', found, exact, (1e-4, 1e-4))
        (of_bias,) = torch.autograd.grad(
            self_attention(half, HEADS, bias.requires_grad_()), bias, upstream.to(BF16)
        )
        apart = relative(of_bias, exact_half[2])
        report.at_most(f'only the bias learns, {length} tokens: its gradient', apart, 2e-2)


def _results(
    way: Callable[..., Tensor], qkv: Tensor, bias: Tensor, upstream: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Result, and the gradients of ``qkv`` and of the bias."""
    qkv, bias = qkv.detach().requires_grad_(), bias.detach().requires_grad_()
    out = way(qkv, HEADS, bias)
    return (out, *torch.autograd.grad(out, (qkv, bias), upstream))


def _exact(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().cpu().double() for tensor in tensors]


def parts(qkv: Tensor, num_heads: int) -> list[Tensor]:
    """Views of queries, keys and values, ``(B, heads, L, d)``."""
    return [part.transpose(1, 2) for part in qkv.unflatten(-1, (3, num_heads, -1)).unbind(2)]


def _explicit(qkv: Tensor, num_heads: int, bias: Tensor) -> Tensor:
    return explicit_attention(*parts(qkv, num_heads), bias).transpose(1, 2).flatten(2)


def _fused(qkv: Tensor, num_heads: int, bias: Tensor) -> Tensor:
    return fused_attention(*parts(qkv, num_heads), bias).transpose(1, 2).flatten(2)


def _judge(report: Report, name: str, found: tuple, exact: tuple, limits: tuple[float, float]) -> None:
    report.at_most(f'{name}: result', relative(found[0], exact[0]), limits[0])
    pairs = zip(found[1].chunk(3, -1), exact[1].chunk(3, -1), strict=True)
    worst = max(relative(one, other) for one, other in pairs)
    report.at_most(f'{name}: gradient of queries, keys, values', worst, limits[1])
    report.at_least(f"{name}: cosine of the bias's gradient", cosine(found[2], exact[2]), 0.9995)
