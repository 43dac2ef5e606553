"""Stage 8: one layer's attention with a learnt bias, forward and backward, by every way and tile."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from mvp_mm.models.backbones import triton_attention
from mvp_mm.models.backbones.attention import fused_attention, merge_heads, self_attention, split_heads

from .attention_accuracy import HEADS, WIDTH, parts
from .measure import BF16, CUDA, event_seconds
from .report import Report

# Beside those that are chosen: rows, columns, warps, stages.
CANDIDATES = {
    'forward': [
        (64, 64, 4, 3), (64, 32, 4, 2), (64, 32, 4, 4), (64, 16, 4, 4), (128, 32, 8, 3), (128, 64, 4, 3),
    ],
    'key_value': [
        (64, 64, 4, 1), (64, 64, 4, 2), (32, 64, 4, 1), (32, 64, 4, 3), (16, 64, 4, 2), (16, 64, 4, 3),
        (32, 64, 8, 2), (32, 128, 8, 2),
    ],
    'query': [(64, 64, 4, 2), (64, 32, 4, 3), (64, 32, 4, 4), (128, 64, 4, 2), (128, 64, 8, 3)],
}  # fmt: skip


def run(report: Report, scale: str) -> None:
    """Ways, then tiles of the kernels."""
    full = scale == 'full'
    for length, batch in ((197, 256), (1025, 8)) if full else ((197, 2),):
        tensors = [
            torch.randn(batch, length, 3 * HEADS * WIDTH, device=CUDA).to(BF16).requires_grad_(),
            torch.randn(HEADS, length, length, device=CUDA).requires_grad_(),
        ]
        upstream = torch.randn(batch, length, HEADS * WIDTH, device=CUDA).to(BF16)
        label = f'{batch} x {length} tokens'
        for name, way in WAYS.items():
            try:
                _time(report, f'{label}, {name}', way, tensors, upstream, 20 if full else 2)
            except Exception as error:  # a way that this torch does not have, or cannot compile
                report.add(f'{label}, {name}', f'{type(error).__name__}: {str(error)[:200]}')
        _time_tiles(report, label, tensors, upstream, full)


def _as_before(qkv: Tensor, bias: Tensor) -> Tensor:
    return merge_heads(fused_attention(*split_heads(qkv, HEADS), bias))


def _packed(qkv: Tensor, bias: Tensor) -> Tensor:
    return merge_heads(fused_attention(*parts(qkv, HEADS), bias))


def _chosen(qkv: Tensor, bias: Tensor) -> Tensor:
    return self_attention(qkv, HEADS, bias)


@torch.compile
def _flex(qkv: Tensor, bias: Tensor) -> Tensor:
    def with_bias(score: Tensor, image: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return score + bias[head, row, column]

    return merge_heads(flex_attention(*parts(qkv, HEADS), score_mod=with_bias))


WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'chosen': _chosen,
    "torch's fused kernel, parts copied": _as_before,
    "torch's fused kernel, parts as views": _packed,
    'flex_attention': _flex,
}


def _time(report: Report, name: str, way: Callable, tensors: list, upstream: Tensor, rounds: int) -> None:
    out = way(*tensors)
    forward = event_seconds(lambda: way(*tensors), rounds)

    def backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad(out, tensors, upstream, retain_graph=True)

    report.add(f'{name}: forward', forward * 1e3, 'ms')
    report.add(f'{name}: backward', event_seconds(backward, rounds) * 1e3, 'ms')


def _time_tiles(report: Report, label: str, tensors: list, upstream: Tensor, full: bool) -> None:
    """Each kernel's tiles, the others' left as they are: the time of the whole pass it belongs to."""
    qkv, bias = tensors[0].detach().unflatten(-1, (3, HEADS, WIDTH)), tensors[1].detach()
    upstream = upstream.unflatten(-1, (HEADS, WIDTH))
    out, log_sum = triton_attention._attention(qkv, bias)
    passes = {
        'forward': lambda: triton_attention._attention(qkv, bias),
        'backward': lambda: triton_attention._attention_backward(upstream, qkv, bias, out, log_sum, True),
    }
    for kernel, tiles in CANDIDATES.items():
        work = passes['forward' if kernel == 'forward' else 'backward']
        kept = triton_attention.TILES[kernel]
        for rows, columns, warps, stages in itertools.islice(tiles, None if full else 1):
            tile = dict(ROWS=rows, COLUMNS=columns, num_warps=warps, num_stages=stages)
            triton_attention.TILES[kernel] = tile
            try:
                found, unit = event_seconds(work, 20 if full else 2) * 1e3, 'ms'
            except Exception as error:  # too large a tile for the GPU
                found, unit = f'{type(error).__name__}: {str(error)[:120]}', ''
            report.add(f'{label}, {kernel} {rows}x{columns}, {warps} warps, {stages} stages', found, unit)
        triton_attention.TILES[kernel] = kept
