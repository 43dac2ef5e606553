"""Attention with a learnt bias as Triton kernels for CUDA, forward and backward.

Torch's memory-efficient kernel, the only one of its own that returns a bias's gradient, writes that gradient
for every image, ``(B, heads, L, L)``, and adds it up afterwards. Here a program adds it up over its images in
registers. Queries, keys and values are read where the joint projection has put them, and the result lies as
the output projection reads it, so nothing is copied.

Every sum has a fixed order: the same input gives the same bits.

Shape legend: B images, L tokens, H heads, d width of a head; ``qkv`` is ``(B, L, 3, H, d)``, its last
dimension contiguous.
"""

import math

import torch
from torch import Tensor

try:
    import triton
    from triton import language as tl
except ImportError:  # no Triton for this platform
    triton = None

LOG2_E = math.log2(math.e)
HEAD_WIDTHS = (16, 32, 64, 128)
# Up to so many tokens a program holds whole rows of the bias's gradient.
WHOLE_ROWS = 256
NEVER = -6e4  # logit of what is beyond the last key: within the range of float16, and a power of zero


def is_available(qkv: Tensor, bias: Tensor, dropout: float) -> bool:
    """Whether :func:`triton_attention` takes these.

    Args:
        qkv: ``(B, L, 3, H, d)``.
        bias: ``(H, L, L)``.
        dropout: Of the attention weights.
    """
    return (
        triton is not None
        and qkv.is_cuda
        and qkv.dtype in (torch.bfloat16, torch.float16)
        and qkv.shape[-1] in HEAD_WIDTHS
        and bias.shape[-1] == bias.shape[-2] == qkv.shape[1]
        and dropout == 0
        and torch.version.hip is None
        and torch.cuda.get_device_capability(qkv.device) >= (8, 0)
    )


def triton_attention(qkv: Tensor, bias: Tensor) -> Tensor:
    """``softmax(q k^T / sqrt(d) + bias) v``, with gradients for ``qkv`` and ``bias``.

    Args:
        qkv: ``(B, L, 3, H, d)``, bf16 or float16.
        bias: ``(H, L, L)``; rounded to the dtype of ``qkv``.

    Returns:
        ``(B, L, H, d)`` in the dtype of ``qkv``.
    """
    return _attention(qkv, bias)[0]


@torch.library.custom_op('mvp_mm::attention', mutates_args=())
def _attention(qkv: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The result, and each query's log2 of the sum of powers, float32 ``(B, H, L)``."""
    batch, length, _, heads, width = qkv.shape
    out, log_sum = _empty_results(qkv)
    padded = _padded_bias(bias, qkv.dtype)
    tile = _tile('forward', length)
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
    padded = _padded_bias(bias, qkv.dtype)
    side = padded.shape[-1]
    of_qkv = torch.empty(qkv.shape, dtype=qkv.dtype, device=qkv.device)
    delta = torch.empty_like(log_sum)
    scale = 1 / math.sqrt(width)
    args = (scale, length, heads, side, *qkv.stride()[:4])
    of_bias = torch.empty(0, dtype=torch.float32, device=qkv.device)
    whole = for_bias and side <= WHOLE_ROWS
    tile = _tile('whole_rows' if whole else 'query', length)
    blocks = triton.cdiv(length, tile['ROWS'])
    if whole:
        chunks = _chunks(batch, blocks * heads, qkv.device)
        parts = torch.empty(chunks, heads, length, length, dtype=torch.float32, device=qkv.device)
        _whole_rows_kernel[(blocks, heads, chunks)](
            gradient, qkv, padded, out, log_sum, of_qkv, delta, parts, batch,
            *args, WIDTH=width, COLUMNS=side, IMAGES=triton.cdiv(batch, chunks), **tile,
        )  # fmt: skip
    else:
        _query_kernel[(blocks, batch * heads)](
            gradient, qkv, padded, out, log_sum, of_qkv, delta, *args,
            WIDTH=width, BLOCKS=triton.cdiv(length, tile['COLUMNS']), **tile,
        )  # fmt: skip
    tile = _tile('key_value', length)
    _key_value_kernel[(triton.cdiv(length, tile['COLUMNS']), batch * heads)](
        gradient, qkv, padded, log_sum, of_qkv, delta, *args,
        WIDTH=width, BLOCKS=triton.cdiv(length, tile['ROWS']), **tile,
    )  # fmt: skip
    if for_bias and not whole:
        tile = _tile('bias', length)
        grid = triton.cdiv(length, tile['ROWS']), triton.cdiv(length, tile['COLUMNS'])
        chunks = _chunks(batch, grid[0] * grid[1] * heads, qkv.device)
        parts = torch.empty(chunks, heads, length, length, dtype=torch.float32, device=qkv.device)
        _bias_kernel[(*grid, heads * chunks)](
            gradient, qkv, padded, log_sum, delta, parts, batch, *args,
            WIDTH=width, IMAGES=triton.cdiv(batch, chunks), **tile,
        )  # fmt: skip
    if for_bias:
        of_bias = parts.sum(0)
    return of_qkv, of_bias


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
    """``bias * log2(e)`` with whole blocks of 64 rows and columns; keys beyond the last get ``NEVER``."""
    heads, length, _ = bias.shape
    side = -(-length // 64) * 64
    # a power of two for those who hold whole rows
    side = triton.next_power_of_2(side) if side <= WHOLE_ROWS else side
    padded = torch.full((heads, side, side), NEVER, dtype=dtype, device=bias.device)
    padded[:, :length, :length] = bias.float() * LOG2_E
    return padded


# What each kernel works on at once: rows are queries, columns keys.
TILES = {
    'forward': dict(ROWS=64, COLUMNS=64, num_warps=4, num_stages=3),
    'query': dict(ROWS=64, COLUMNS=64, num_warps=4, num_stages=2),
    'whole_rows': dict(ROWS=32, num_warps=8, num_stages=2),
    'key_value': dict(ROWS=64, COLUMNS=64, num_warps=4, num_stages=2),
    'bias': dict(ROWS=64, COLUMNS=64, num_warps=4, num_stages=2),
}


def _tile(kernel: str, length: int) -> dict[str, int]:
    return TILES[kernel]


def _chunks(batch: int, programs: int, device: torch.device) -> int:
    """Into how many parts to split a batch so that all multiprocessors have work, about twice over."""
    processors = (
        torch.cuda.get_device_properties(device).multi_processor_count if device.type == 'cuda' else 1
    )
    return max(1, min(batch, 2 * processors // programs))


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
    def _query_kernel(
        gradient, qkv, bias, out, log_sum, of_qkv, deltas, scale, length, heads, side,
        of_image, of_token, of_part, of_head,
        WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCKS: tl.constexpr,
    ):  # fmt: skip
        """Of a block of queries: the gradient, and ``delta``, the sum of gradient times result."""
        image, head = tl.program_id(1) // heads, tl.program_id(1) % heads
        rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        dims = tl.arange(0, WIDTH)
        there = rows[:, None] < length
        start = qkv + image.to(tl.int64) * of_image + head * of_head
        query = tl.load(start + rows[:, None] * of_token + dims[None, :], mask=there, other=0.0)
        row = (image.to(tl.int64) * length + rows) * heads + head
        incoming = tl.load(gradient + row[:, None] * WIDTH + dims[None, :], mask=there, other=0.0)
        result = tl.load(out + row[:, None] * WIDTH + dims[None, :], mask=there, other=0.0)
        numbers = (image.to(tl.int64) * heads + head) * length + rows
        log_total = tl.load(log_sum + numbers, mask=rows < length, other=0.0)
        delta = tl.sum(incoming.to(tl.float32) * result.to(tl.float32), 1)
        tl.store(deltas + numbers, delta, mask=rows < length)
        bias_rows = bias + (head * side + rows[:, None]) * side
        found = tl.zeros((ROWS, WIDTH), tl.float32)
        for block in range(BLOCKS):
            columns = block * COLUMNS + tl.arange(0, COLUMNS)
            keys = start + of_part + columns[:, None] * of_token + dims[None, :]
            key = tl.load(keys, mask=columns[:, None] < length, other=0.0)
            value = tl.load(keys + of_part, mask=columns[:, None] < length, other=0.0)
            logits = tl.dot(query, tl.trans(key)) * (scale * 1.4426950408889634)
            logits += tl.load(bias_rows + columns[None, :])
            weights = tl.exp2(logits - log_total[:, None])
            of_logits = weights * (tl.dot(incoming, tl.trans(value)) - delta[:, None])
            found = tl.dot(of_logits.to(query.dtype), key, found)
        row = (image.to(tl.int64) * length + rows) * (3 * heads) + head
        place = of_qkv + row[:, None] * WIDTH + dims[None, :]
        tl.store(place, (found * scale).to(query.dtype), mask=there)

    @triton.jit
    def _whole_rows_kernel(
        gradient, qkv, bias, out, log_sum, of_qkv, deltas, parts, batch,
        scale, length, heads, side, of_image, of_token, of_part, of_head,
        WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, IMAGES: tl.constexpr,
    ):  # fmt: skip
        """As ``_query_kernel``, for some images one after another, with their sum of the bias's gradient."""
        head, chunk = tl.program_id(1), tl.program_id(2)
        rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        columns = tl.arange(0, COLUMNS)
        dims = tl.arange(0, WIDTH)
        of_bias = tl.zeros((ROWS, COLUMNS), tl.float32)
        bias_tile = tl.load(bias + (head * side + rows[:, None]) * side + columns[None, :]).to(tl.float32)
        for number in range(IMAGES):
            image = chunk * IMAGES + number
            some = tl.where(image < batch, length, 0)  # nothing of images beyond the last
            there = rows[:, None] < some
            start = qkv + image.to(tl.int64) * of_image + head * of_head
            query = tl.load(start + rows[:, None] * of_token + dims[None, :], mask=there, other=0.0)
            row = (image.to(tl.int64) * length + rows) * heads + head
            incoming = tl.load(gradient + row[:, None] * WIDTH + dims[None, :], mask=there, other=0.0)
            result = tl.load(out + row[:, None] * WIDTH + dims[None, :], mask=there, other=0.0)
            numbers = (image.to(tl.int64) * heads + head) * length + rows
            # Rows beyond the last: weights of zero.
            log_total = tl.load(log_sum + numbers, mask=rows < some, other=1e30)
            delta = tl.sum(incoming.to(tl.float32) * result.to(tl.float32), 1)
            tl.store(deltas + numbers, delta, mask=rows < some)
            keys = start + of_part + columns[:, None] * of_token + dims[None, :]
            key = tl.load(keys, mask=columns[:, None] < some, other=0.0)
            value = tl.load(keys + of_part, mask=columns[:, None] < some, other=0.0)
            logits = tl.dot(query, tl.trans(key)) * (scale * 1.4426950408889634) + bias_tile
            weights = tl.exp2(logits - log_total[:, None])
            of_logits = weights * (tl.dot(incoming, tl.trans(value)) - delta[:, None])
            of_bias += of_logits
            found = tl.dot(of_logits.to(query.dtype), key) * scale
            row = (image.to(tl.int64) * length + rows) * (3 * heads) + head
            tl.store(of_qkv + row[:, None] * WIDTH + dims[None, :], found.to(query.dtype), mask=there)
        place = parts + ((chunk * heads + head) * length + rows[:, None]) * length + columns[None, :]
        tl.store(place, of_bias, mask=(rows[:, None] < length) & (columns[None, :] < length))

    @triton.jit
    def _key_value_kernel(
        gradient, qkv, bias, log_sum, of_qkv, deltas, scale, length, heads, side,
        of_image, of_token, of_part, of_head,
        WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCKS: tl.constexpr,
    ):  # fmt: skip
        """Gradients of a block of keys and of values. Tiles lie transposed, ``(keys, queries)``."""
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
        for block in range(BLOCKS):
            rows = block * ROWS + tl.arange(0, ROWS)
            inside = rows[:, None] < length
            query = tl.load(start + rows[:, None] * of_token + dims[None, :], mask=inside, other=0.0)
            row = (image.to(tl.int64) * length + rows) * heads + head
            incoming = tl.load(gradient + row[:, None] * WIDTH + dims[None, :], mask=inside, other=0.0)
            log_total = tl.load(log_sum + first + rows, mask=rows < length, other=1e30)
            delta = tl.load(deltas + first + rows, mask=rows < length, other=0.0)
            logits = tl.dot(key, tl.trans(query)) * (scale * 1.4426950408889634)
            logits += tl.load(bias + (head * side + rows[None, :]) * side + columns[:, None])
            weights = tl.exp2(logits - log_total[None, :])
            of_value = tl.dot(weights.to(key.dtype), incoming, of_value)
            of_logits = weights * (tl.dot(value, tl.trans(incoming)) - delta[None, :])
            of_key = tl.dot(of_logits.to(key.dtype), query, of_key)
        of_column = (image.to(tl.int64) * length + columns) * (3 * heads) + heads + head
        place = of_qkv + of_column[:, None] * WIDTH + dims[None, :]
        tl.store(place, (of_key * scale).to(key.dtype), mask=there)
        tl.store(place + heads * WIDTH, of_value.to(key.dtype), mask=there)

    @triton.jit
    def _bias_kernel(
        gradient, qkv, bias, log_sum, deltas, parts, batch, scale, length, heads, side,
        of_image, of_token, of_part, of_head,
        WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, IMAGES: tl.constexpr,
    ):  # fmt: skip
        """A tile of the bias's gradient, added up over some images."""
        head, chunk = tl.program_id(2) % heads, tl.program_id(2) // heads
        rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        dims = tl.arange(0, WIDTH)
        of_bias = tl.zeros((ROWS, COLUMNS), tl.float32)
        bias_tile = tl.load(bias + (head * side + rows[:, None]) * side + columns[None, :]).to(tl.float32)
        for number in range(IMAGES):
            image = chunk * IMAGES + number
            some = tl.where(image < batch, length, 0)  # nothing of images beyond the last
            start = qkv + image.to(tl.int64) * of_image + head * of_head
            query = tl.load(
                start + rows[:, None] * of_token + dims[None, :], mask=rows[:, None] < some, other=0.0
            )
            row = (image.to(tl.int64) * length + rows) * heads + head
            incoming = tl.load(
                gradient + row[:, None] * WIDTH + dims[None, :], mask=rows[:, None] < some, other=0.0
            )
            numbers = (image.to(tl.int64) * heads + head) * length + rows
            log_total = tl.load(log_sum + numbers, mask=rows < some, other=1e30)
            delta = tl.load(deltas + numbers, mask=rows < some, other=0.0)
            keys = start + of_part + columns[:, None] * of_token + dims[None, :]
            key = tl.load(keys, mask=columns[:, None] < some, other=0.0)
            value = tl.load(keys + of_part, mask=columns[:, None] < some, other=0.0)
            logits = tl.dot(query, tl.trans(key)) * (scale * 1.4426950408889634) + bias_tile
            weights = tl.exp2(logits - log_total[:, None])
            of_bias += weights * (tl.dot(incoming, tl.trans(value)) - delta[:, None])
        place = parts + ((chunk * heads + head) * length + rows[:, None]) * length + columns[None, :]
        tl.store(place, of_bias, mask=(rows[:, None] < length) & (columns[None, :] < length))
