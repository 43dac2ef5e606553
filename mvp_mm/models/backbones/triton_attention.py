"""Attention with a learnt bias as Triton kernels for CUDA, forward and backward.

Nothing is copied: inputs, result and gradients lie as the projections write and read them. The gradient of
the logits is computed once, with those of keys and values, and kept for the queries and the bias to add up.
Every sum has a fixed order: the same input gives the same bits.

Shape legend: B images, L tokens, H heads, d width of a head; ``qkv`` is ``(B, L, 3, H, d)``, its last
dimension contiguous.
"""

import math
from contextlib import nullcontext

import torch
from torch import Tensor

try:
    import triton
    from triton import language as tl
except ImportError:  # no Triton for this platform
    triton = None

LOG2_E = math.log2(math.e)
HEAD_WIDTHS = (16, 32, 64, 128)
MOST_PAIRS = 65535  # of images and heads: a CUDA grid's second dimension
LARGEST_TILE = 128
ALIGNMENT = 16  # of rows that a kernel reads and writes in long words
NEVER = -6e4  # logit beyond the last key: within the range of float16, and its power is zero


def is_available(qkv: Tensor, bias: Tensor, dropout: float) -> bool:
    """Return whether :func:`triton_attention` takes these tensors, and this dropout of the weights."""
    return (
        triton is not None
        and qkv.is_cuda
        and qkv.dtype in (torch.bfloat16, torch.float16)
        and qkv.shape[-1] in HEAD_WIDTHS
        and qkv.shape[0] * qkv.shape[3] <= MOST_PAIRS
        and bias.shape[-1] == bias.shape[-2] == qkv.shape[1]
        and dropout == 0
        and torch.version.hip is None
        and torch.cuda.get_device_capability(qkv.device) >= (8, 0)
    )


def triton_attention(qkv: Tensor, bias: Tensor) -> Tensor:
    """Compute ``softmax(q k^T / sqrt(d) + bias) v``, ``(B, L, H, d)``, with gradients for both inputs.

    ``qkv`` is bf16 or float16, and ``bias``, ``(H, L, L)``, is rounded to its dtype.
    """
    return _attention(qkv, bias)[0]


@torch.library.custom_op('mvp_mm::attention', mutates_args=())
def _attention(qkv: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the result, and log2 of each query's sum of powers, float32 ``(B, H, L)``."""
    batch, length, _, heads, width = qkv.shape
    out, log_sum = _empty_results(qkv)
    padded = _padded_bias(bias, qkv.dtype)
    tile = TILES['forward']
    # Triton launches on the current device, and only autograd makes that the tensors' own.
    with torch.cuda.device(qkv.device) if qkv.is_cuda else nullcontext():
        _forward_kernel[(triton.cdiv(length, tile['ROWS']), batch * heads)](
            qkv, padded, out, log_sum, LOG2_E / math.sqrt(width), length, heads, padded.shape[-1],
            *qkv.stride()[:4], WIDTH=width, BLOCKS=triton.cdiv(length, tile['COLUMNS']), **tile,
        )  # fmt: skip
    return out, log_sum


@_attention.register_fake
def _(qkv: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return _empty_results(qkv)


@torch.library.custom_op('mvp_mm::attention_backward', mutates_args=())
def _attention_backward(
    gradient: Tensor, qkv: Tensor, bias: Tensor, out: Tensor, log_sum: Tensor, for_bias: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of ``qkv``, contiguous, and of ``bias``, float32 (empty unless ``for_bias``)."""
    batch, length, _, heads, width = qkv.shape
    gradient = gradient.contiguous()
    delta, of_qkv = torch.empty_like(log_sum), torch.empty(qkv.shape, dtype=qkv.dtype, device=qkv.device)
    rows = batch * length * heads
    _delta_kernel[(triton.cdiv(rows, 64),)](gradient, out, delta, rows, length, heads, WIDTH=width, ROWS=64)
    padded = _padded_bias(bias.transpose(1, 2), qkv.dtype)
    pitch = -(-length // ALIGNMENT) * ALIGNMENT
    # by key, then query
    of_logits = torch.empty(batch, heads, length, pitch, dtype=qkv.dtype, device=qkv.device)
    scale = 1 / math.sqrt(width)
    tile = TILES['key_value']
    _key_value_kernel[(triton.cdiv(length, tile['COLUMNS']), batch * heads)](
        gradient, qkv, padded, log_sum, delta, of_qkv, of_logits, scale, length, heads, padded.shape[-1],
        pitch, *qkv.stride()[:4], WIDTH=width, BLOCKS=triton.cdiv(length, tile['ROWS']), **tile,
    )  # fmt: skip
    tile = TILES['query']
    _query_kernel[(triton.cdiv(length, tile['ROWS']), batch * heads)](
        qkv, of_logits, of_qkv, scale, length, heads, pitch,
        *qkv.stride()[:4], WIDTH=width, BLOCKS=triton.cdiv(length, tile['COLUMNS']), **tile,
    )  # fmt: skip
    if not for_bias:
        return of_qkv, torch.empty(0, dtype=torch.float32, device=qkv.device)
    of_bias = of_logits.flatten(1).sum(0, dtype=torch.float32).view(heads, length, pitch)
    return of_qkv, of_bias[..., :length].transpose(1, 2).contiguous()


@_attention_backward.register_fake
def _(gradient, qkv, bias, out, log_sum, for_bias):
    of_bias = qkv.new_empty(bias.shape if for_bias else (0,), dtype=torch.float32)
    return qkv.new_empty(qkv.shape), of_bias


def _save(ctx, inputs: tuple, output: tuple) -> None:
    ctx.save_for_backward(*inputs, *output)
    ctx.bias_dtype = inputs[1].dtype


def _backward(ctx, gradient: Tensor, _) -> tuple[Tensor | None, Tensor | None]:
    of_input, of_bias = ctx.needs_input_grad
    qkv_gradient, bias_gradient = _attention_backward(gradient, *ctx.saved_tensors, of_bias)
    return qkv_gradient if of_input else None, bias_gradient.to(ctx.bias_dtype) if of_bias else None


_attention.register_autograd(_backward, setup_context=_save)


def _empty_results(qkv: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, _, heads, width = qkv.shape
    out = qkv.new_empty(batch, length, heads, width)
    return out, qkv.new_empty(batch, heads, length, dtype=torch.float32)


def _padded_bias(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``bias * log2(e)``, padded to whole tiles by ``NEVER``."""
    heads, length, _ = bias.shape
    side = -(-length // LARGEST_TILE) * LARGEST_TILE
    padded = torch.full((heads, side, side), NEVER, dtype=dtype, device=bias.device)
    padded[:, :length, :length] = bias.float() * LOG2_E
    return padded


# A program's tile (rows are queries, columns keys), warps and pipeline stages, chosen on an H200 by
# `gpu_check.py --stages 6 8` (docs/performance.md).
TILES = {
    'forward': dict(ROWS=64, COLUMNS=32, num_warps=4, num_stages=3),
    'key_value': dict(ROWS=32, COLUMNS=64, num_warps=4, num_stages=2),
    'query': dict(ROWS=128, COLUMNS=64, num_warps=8, num_stages=3),
}


if triton is not None:

    @triton.jit
    def _forward_kernel(
        qkv, bias, out, log_sum, scale, length, heads, side, of_image, of_token, of_part, of_head,
        WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCKS: tl.constexpr,
    ):  # fmt: skip
        image, head = tl.program_id(1) // heads, tl.program_id(1) % heads
        rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        dims = tl.arange(0, WIDTH)
        there = rows[:, None] < length
        start = qkv + image.to(tl.int64) * of_image + head * of_head
        query = tl.load(start + rows[:, None] * of_token + dims[None, :], mask=there, other=0.0)
        bias_rows = bias + (head * side + rows[:, None]) * side
        largest = tl.full((ROWS,), -1e38, tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        result = tl.zeros((ROWS, WIDTH), tl.float32)
        for block in range(BLOCKS):
            columns = block * COLUMNS + tl.arange(0, COLUMNS)
            keys = start + of_part + columns[:, None] * of_token + dims[None, :]
            key = tl.load(keys, mask=columns[:, None] < length, other=0.0)
            value = tl.load(keys + of_part, mask=columns[:, None] < length, other=0.0)
            logits = tl.dot(query, tl.trans(key)) * scale + tl.load(bias_rows + columns[None, :])
            larger = tl.maximum(largest, tl.max(logits, 1))
            shrunk = tl.exp2(largest - larger)
            weights = tl.exp2(logits - larger[:, None])
            total = total * shrunk + tl.sum(weights, 1)
            result = result * shrunk[:, None]
            result = tl.dot(weights.to(query.dtype), value, result)
            largest = larger
        result = result / total[:, None]
        row = (image.to(tl.int64) * length + rows) * heads + head
        tl.store(out + row[:, None] * WIDTH + dims[None, :], result.to(query.dtype), mask=there)
        place = log_sum + (image.to(tl.int64) * heads + head) * length + rows
        tl.store(place, largest + tl.log2(total), mask=rows < length)

    @triton.jit
    def _delta_kernel(
        gradient, out, deltas, total, length, heads, WIDTH: tl.constexpr, ROWS: tl.constexpr
    ):  # fmt: skip
        """Sum gradient times result over each query's head: ``(B, H, L)``."""
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        place = row.to(tl.int64)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
        incoming = tl.load(gradient + place, mask=row[:, None] < total, other=0.0).to(tl.float32)
        result = tl.load(out + place, mask=row[:, None] < total, other=0.0).to(tl.float32)
        token, head = row // heads, row % heads
        target = ((token // length) * heads + head) * length + token % length
        tl.store(deltas + target, tl.sum(incoming * result, 1), mask=row < total)

    @triton.jit
    def _key_value_kernel(
        gradient, qkv, bias, log_sum, deltas, of_qkv, of_logits, scale, length, heads, side, pitch,
        of_image, of_token, of_part, of_head,
        WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCKS: tl.constexpr,
    ):  # fmt: skip
        """Compute gradients of a block of keys, values, and their logits. Tiles are (keys, queries)."""
        image, head = tl.program_id(1) // heads, tl.program_id(1) % heads
        columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
        dims = tl.arange(0, WIDTH)
        there = columns[:, None] < length
        start = qkv + image.to(tl.int64) * of_image + head * of_head
        keys = start + of_part + columns[:, None] * of_token + dims[None, :]
        key = tl.load(keys, mask=there, other=0.0)
        value = tl.load(keys + of_part, mask=there, other=0.0)
        of_key = tl.zeros((COLUMNS, WIDTH), tl.float32)
        of_value = tl.zeros((COLUMNS, WIDTH), tl.float32)
        first = (image.to(tl.int64) * heads + head) * length
        bias_rows = bias + (head * side + columns[:, None]) * side
        logit_rows = of_logits + (first + columns[:, None]) * pitch
        for block in range(BLOCKS):
            rows = block * ROWS + tl.arange(0, ROWS)
            inside = rows[:, None] < length
            query = tl.load(start + rows[:, None] * of_token + dims[None, :], mask=inside, other=0.0)
            row = (image.to(tl.int64) * length + rows) * heads + head
            incoming = tl.load(gradient + row[:, None] * WIDTH + dims[None, :], mask=inside, other=0.0)
            # beyond the last query: weights of zero
            log_total = tl.load(log_sum + first + rows, mask=rows < length, other=1e30)
            delta = tl.load(deltas + first + rows, mask=rows < length, other=0.0)
            logits = tl.dot(key, tl.trans(query)) * (scale * 1.4426950408889634)
            logits += tl.load(bias_rows + rows[None, :])
            weights = tl.exp2(logits - log_total[None, :])
            of_value = tl.dot(weights.to(key.dtype), incoming, of_value)
            of_logit = (weights * (tl.dot(value, tl.trans(incoming)) - delta[None, :])).to(key.dtype)
            tl.store(logit_rows + rows[None, :], of_logit, mask=there & (rows[None, :] < pitch))
            of_key = tl.dot(of_logit, query, of_key)
        of_column = (image.to(tl.int64) * length + columns) * (3 * heads) + heads + head
        place = of_qkv + of_column[:, None] * WIDTH + dims[None, :]
        tl.store(place, (of_key * scale).to(key.dtype), mask=there)
        tl.store(place + heads * WIDTH, of_value.to(key.dtype), mask=there)

    @triton.jit
    def _query_kernel(
        qkv, of_logits, of_qkv, scale, length, heads, pitch, of_image, of_token, of_part, of_head,
        WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCKS: tl.constexpr,
    ):  # fmt: skip
        """Compute the gradient of a block of queries from that of their logits."""
        image, head = tl.program_id(1) // heads, tl.program_id(1) % heads
        rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        dims = tl.arange(0, WIDTH)
        keys = qkv + image.to(tl.int64) * of_image + head * of_head + of_part + dims[None, :]
        logit_columns = of_logits + (image.to(tl.int64) * heads + head) * length * pitch + rows[None, :]
        found = tl.zeros((ROWS, WIDTH), tl.float32)
        for block in range(BLOCKS):
            columns = block * COLUMNS + tl.arange(0, COLUMNS)
            there = columns[:, None] < length
            key = tl.load(keys + columns[:, None] * of_token, mask=there, other=0.0)
            inside = there & (rows[None, :] < pitch)
            of_logit = tl.load(logit_columns + columns[:, None] * pitch, mask=inside, other=0.0)
            found = tl.dot(tl.trans(of_logit), key, found)
        row = (image.to(tl.int64) * length + rows) * (3 * heads) + head
        place = of_qkv + row[:, None] * WIDTH + dims[None, :]
        tl.store(place, (found * scale).to(of_qkv.dtype.element_ty), mask=rows[:, None] < length)
