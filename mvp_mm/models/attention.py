"""Self-attention with an additive bias, and the choice of the path that computes it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .triton_attention import is_available, triton_attention

# CUDA's memory-efficient kernel reads a bias whose rows begin at multiples of so many elements; of any other
# torch would copy it for every image of the batch and every layer.
ALIGNMENT = 8


def self_attention(qkv: Tensor, num_heads: int, bias: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Attention of tokens among themselves, from the joint projection to what the output projection takes.

    Args:
        qkv: ``(B, L, 3C)``: queries, keys, values, each with its heads side by side.
        num_heads: Heads; must divide C.
        bias: ``(heads, L, L)``, added to the logits, or None.
        dropout: Probability of dropping an attention weight. Default 0 (BEiT recipe).

    Returns:
        ``(B, L, C)`` in the dtype of ``qkv``.
    """
    packed = qkv.unflatten(-1, (3, num_heads, -1))
    if bias is not None and is_available(packed, bias, dropout):
        return triton_attention(packed, bias).flatten(2)
    if qkv.is_cuda:  # its kernels read the parts where they lie
        query, key, value = (part.transpose(1, 2) for part in packed.unbind(2))
    else:
        query, key, value = split_heads(qkv, num_heads)
    return merge_heads(biased_attention(query, key, value, bias, dropout))


def biased_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float = 0.0
) -> Tensor:
    """``softmax(q k^T / sqrt(d) + bias) v``, by the path that is fastest where the tensors are.

    Args:
        query: ``(B, heads, L, d)``; ``key`` and ``value`` alike; contiguous on a CPU for speed.
        key: See ``query``.
        value: See ``query``.
        bias: ``(heads, L, L)`` or None.
        dropout: Probability of dropping an attention weight. Default 0 (BEiT recipe).

    Returns:
        ``(B, heads, L, d)`` in the dtype of ``query``.
    """
    if bias is None:
        # cuDNN's or flash attention on CUDA; torch's blocked kernel on a CPU.
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    # The fused kernel keeps what its backward pass needs only if one of these three asks for it; with the
    # bias alone torch 2.11 reads through an empty tensor there (pytorch#148476).
    bias_alone = bias.requires_grad and not any(part.requires_grad for part in (query, key, value))
    if query.is_cuda and not (bias_alone and torch.is_grad_enabled()):
        return fused_attention(query, key, value, bias, dropout)
    # On a CPU the fused kernel takes no bias that needs a gradient and falls to a slow path.
    return explicit_attention(query, key, value, bias, dropout)


def fused_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout: float = 0.0) -> Tensor:
    """:func:`biased_attention` by ``scaled_dot_product_attention``.

    Of CUDA's kernels only the memory-efficient one takes a bias and returns its gradient; it wants the
    bias in the dtype of ``query``. That is made for every layer anew, so that the layers' gradients add up
    in the dtype of ``bias``.
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
    if dropout > 0:
        weights = F.dropout(weights, dropout)
    return weights @ value


def aligned(bias: Tensor) -> Tensor:
    """The same values ``(heads, L, L)`` with rows that begin at multiples of ``ALIGNMENT`` elements."""
    length = bias.shape[-1]
    return F.pad(bias, (0, -length % ALIGNMENT))[..., :length]


def attention_probabilities(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """``softmax(q k^T / sqrt(d) + bias)``: how much each token attends to each other one.

    Args:
        query: ``(B, heads, L, d)``; ``key`` alike.
        key: See ``query``.
        bias: ``(heads, L, L)`` or None.

    Returns:
        ``(B, heads, L, L)``; each row, that of a query, sums to one.
    """
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if bias is not None:
        logits += bias.to(query.dtype)  # in place: no product needs them any more
    return logits.softmax(dim=-1)


def split_heads(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """``(B, L, 3C)`` to contiguous query, key and value of shape ``(B, heads, L, C / heads)``."""
    batch, length, width = qkv.shape
    qkv = qkv.view(batch, length, 3, num_heads, width // (3 * num_heads))
    query, key, value = qkv.permute(2, 0, 3, 1, 4).contiguous().unbind(0)
    return query, key, value


def merge_heads(heads: Tensor) -> Tensor:
    """``(B, heads, L, d)`` to ``(B, L, heads * d)``."""
    batch, num_heads, length, width = heads.shape
    return heads.transpose(1, 2).reshape(batch, length, num_heads * width)


def qkv_bias(q_bias: Tensor, v_bias: Tensor) -> Tensor:
    """BEiT's bias of the joint projection: learnt for query and value, zero for key."""
    return torch.cat([q_bias, torch.zeros_like(v_bias, requires_grad=False), v_bias])
