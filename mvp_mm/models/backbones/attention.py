"""Self-attention with an additive bias, and the choice of the path that computes it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .triton_attention import is_available, triton_attention

# CUDA's memory-efficient kernel wants a bias whose rows begin at multiples of this many elements; torch would
# copy any other for every image and layer.
ALIGNMENT = 8
# Tokens up to which torch's fused kernel, whose backward pass in bf16 is slow on a CPU, takes longer than two
# products and a softmax: 6.7 times as long for 65 tokens, 2.4 times for 577 (docs/performance.md).
LONGEST_EXPLICIT = 768


def self_attention(qkv: Tensor, num_heads: int, bias: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Compute self-attention between the input and the output projection: ``(B, L, C)``.

    ``qkv``, ``(B, L, 3C)``, holds queries, keys, values, each with its heads side by side. ``bias``,
    ``(heads, L, L)``, ``(L, L)`` for all heads, or None, is added to the logits; ``dropout`` is the weights'.
    """
    packed = qkv.unflatten(-1, (3, num_heads, -1))
    if bias is not None and is_available(packed, bias, dropout):
        return triton_attention(packed, bias).flatten(2)
    explicit = bias is not None or learns_faster_explicitly(qkv, qkv.shape[1])
    if explicit and dropout == 0 and _learns_on_cpu(qkv):
        return _CPUAttention.apply(packed, bias).flatten(2)
    # CUDA's kernels read the parts where they lie.
    query, key, value = packed.transpose(1, 3).unbind(2) if qkv.is_cuda else split_heads(qkv, num_heads)
    return merge_heads(biased_attention(query, key, value, bias, dropout))


def learns_faster_explicitly(tokens: Tensor, length: int = 0) -> bool:
    """Whether attention learns faster by two products and a softmax than by torch's fused kernel.

    It does in bf16, autocast's too, on a CPU, up to ``LONGEST_EXPLICIT`` tokens; ``tokens`` are its input.
    """
    if not tokens.is_cpu or not torch.is_grad_enabled() or _is_one_graph() or length > LONGEST_EXPLICIT:
        return False
    dtype = torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else tokens.dtype
    return dtype == torch.bfloat16


def _learns_on_cpu(qkv: Tensor) -> bool:
    return qkv.is_cpu and qkv.requires_grad and torch.is_grad_enabled() and not _is_one_graph()


def _is_one_graph() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


class _CPUAttention(torch.autograd.Function):
    """:func:`explicit_attention` with fewer passes over memory than under autograd.

    The scale is a factor of the products, and the gradients are written straight into the joint one.
    """

    @staticmethod
    def forward(ctx, qkv: Tensor, bias: Tensor | None) -> Tensor:
        batch, length, _, num_heads, width = qkv.shape
        heads = qkv.permute(2, 0, 3, 1, 4).contiguous()
        query, key, value = heads.flatten(1, 2)
        logits = torch.baddbmm(
            query.new_empty(()), query, key.transpose(1, 2), beta=0, alpha=width**-0.5
        ).view(batch, num_heads, length, length)
        if bias is not None:
            logits += bias.to(logits.dtype)
            ctx.bias_dtype = bias.dtype
        weights = logits.softmax(dim=-1)
        ctx.save_for_backward(heads, weights)
        mixed = torch.bmm(weights.flatten(0, 1), value).view(batch, num_heads, length, width)
        return mixed.transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        heads, weights = ctx.saved_tensors
        query, key, value = heads.flatten(1, 2)
        of_heads = torch.empty_like(heads)
        of_query, of_key, of_value = of_heads.flatten(1, 2)
        gradient = gradient.transpose(1, 2).reshape(value.shape)
        flat = weights.flatten(0, 1)
        torch.bmm(flat.transpose(1, 2), gradient, out=of_value)
        of_weights = torch.bmm(gradient, value.transpose(1, 2)).view_as(weights)
        of_logits = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_bias = of_logits.sum(0, dtype=ctx.bias_dtype) if ctx.needs_input_grad[1] else None
        flat, scale = of_logits.flatten(0, 1), query.shape[-1] ** -0.5
        torch.baddbmm(of_query, flat, key, beta=0, alpha=scale, out=of_query)
        torch.baddbmm(of_key, flat.transpose(1, 2), query, beta=0, alpha=scale, out=of_key)
        return of_heads.permute(1, 3, 0, 2, 4), of_bias


def biased_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float = 0.0
) -> Tensor:
    """Compute ``softmax(q k^T / sqrt(d) + bias) v`` ``(B, heads, L, d)`` by the device's fastest path.

    Query, key and value are ``(B, heads, L, d)``, contiguous on a CPU for speed, the bias ``(heads, L, L)``.
    """
    if bias is None:
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    # If the bias alone needs a gradient, torch 2.11's fused kernel does not keep what its backward pass
    # reads (pytorch#148476).
    bias_alone = bias.requires_grad and not any(part.requires_grad for part in (query, key, value))
    if query.is_cuda and not (bias_alone and torch.is_grad_enabled()):
        return fused_attention(query, key, value, bias, dropout)
    # On a CPU a bias that needs a gradient sends scaled_dot_product_attention to a slow path.
    return explicit_attention(query, key, value, bias, dropout)


def fused_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout: float = 0.0) -> Tensor:
    """:func:`biased_attention` by ``scaled_dot_product_attention``.

    Only CUDA's memory-efficient kernel takes a bias and returns its gradient; it wants the bias in the dtype
    of ``query``. Each layer converts it anew, so that the layers' gradients add up in the dtype of ``bias``.
    """
    mask = aligned(bias.to(query.dtype)).expand(query.shape[0], -1, -1, -1)
    return F.scaled_dot_product_attention(query, key, value, mask, dropout)


def explicit_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout: float = 0.0
) -> Tensor:
    """:func:`biased_attention` by two matrix products and a softmax.

    One product that begins with the bias (``baddbmm``) is slower: docs/performance.md.
    """
    weights = attention_probabilities(query, key, bias)
    return (F.dropout(weights, dropout) if dropout > 0 else weights) @ value


def aligned(bias: Tensor) -> Tensor:
    """Return a bias ``(heads, L, L)`` whose rows begin at multiples of ``ALIGNMENT`` elements."""
    length = bias.shape[-1]
    return F.pad(bias, (0, -length % ALIGNMENT))[..., :length]


def attention_probabilities(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """Compute ``softmax(q k^T / sqrt(d) + bias)``: ``(B, heads, L, L)``, a query's row sums to one."""
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if bias is not None:
        logits += bias.to(query.dtype)  # in place: no gradient needs them
    return logits.softmax(dim=-1)


def split_heads(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split ``(B, L, 3C)`` into contiguous query, key and value ``(B, heads, L, C / heads)``."""
    query, key, value = qkv.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4).contiguous()
    return query, key, value


def merge_heads(heads: Tensor) -> Tensor:
    """Join ``(B, heads, L, d)`` to ``(B, L, heads * d)``."""
    return heads.transpose(1, 2).flatten(2)


def qkv_bias(q_bias: Tensor, v_bias: Tensor) -> Tensor:
    """Return BEiT's bias of the joint projection: learnt for query and value, zero for key."""
    return torch.cat([q_bias, torch.zeros_like(v_bias, requires_grad=False), v_bias])
