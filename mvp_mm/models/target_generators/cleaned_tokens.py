"""Patch tokens of CLIP that match text: known changes of the last block, which need no training.

Shape legend: B batch, L = 1 + h * w tokens, CLS first, C width, N heads, d = C / N.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: The paper's targets, and how MaskCLIP, NACLIP and SCLIP change the last block.
VARIANTS = ('last', 'value', 'neighbour', 'kk', 'csa')
NEIGHBOUR_SIGMA = 5.0  # NACLIP §4.1, in patches


def require_cleanable(block: nn.Module, variant: str) -> None:
    """Raise ValueError unless a last block has the parts that :func:`cleaned_block` computes with."""
    attention: Any = getattr(block, 'attn', None)
    needed = ('in_proj_weight', 'in_proj_bias', 'out_proj', 'num_heads')
    plain = all(getattr(attention, part, None) is not None for part in needed)
    further = ('logit_scale', 'head_scale', 'ln_q', 'ln_k', 'ln_inner')
    others = [getattr(block, 'ln_attn', None), *(getattr(attention, part, None) for part in further)]
    if not plain or not all(other is None or isinstance(other, nn.Identity) for other in others):
        raise ValueError(
            f"tokens={variant!r} needs the attention of open_clip's own vision transformers, such as "
            f"ViT-B-16-quickgelu, not that of a {type(block).__name__}: use tokens='last'"
        )


def cleaned_block(block: Any, tokens: Tensor, grid: tuple[int, int], variant: str) -> Tensor:
    """Run the last block of an open_clip vision transformer, changed as ``variant`` says.

    With q, k, v the projections of the normed input x, a = softmax and ω of :func:`neighbourhood`:

    * ``'value'`` (MaskCLIP): ``out_proj(v)``;
    * ``'kk'``: ``out_proj(a(k kᵀ / √d) v)``;
    * ``'neighbour'`` (NACLIP): ``out_proj(a(k kᵀ / √d + ω) v)``;
    * ``'csa'`` (SCLIP): ``x + out_proj((a(q qᵀ / √d) + a(k kᵀ / √d)) v)``, then the MLP.

    Args:
        block: Its last block.
        tokens: Input ``(B, L, C)``.
        grid: Patch grid ``(h, w)``.
        variant: One of :data:`VARIANTS` but ``'last'``.

    Returns:
        ``(B, L, C)``; only ``'csa'`` keeps the residual and the MLP.
    """
    attention = block.attn
    qkv = F.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = qkv.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    scale = query.shape[-1] ** -0.5
    if variant != 'value':
        logits = key * scale @ key.transpose(-2, -1)
        if variant == 'neighbour':
            logits = logits + neighbourhood(grid, NEIGHBOUR_SIGMA, logits.device).to(logits.dtype)
        weights = logits.softmax(-1)
        if variant == 'csa':
            weights = weights + (query * scale @ query.transpose(-2, -1)).softmax(-1)
        value = weights @ value
    mixed = attention.out_proj(value.transpose(1, 2).flatten(2))
    if variant != 'csa':
        return mixed
    tokens = tokens + block.ls_1(mixed)
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def neighbourhood(grid: tuple[int, int], sigma: float, device: torch.device) -> Tensor:
    """Return NACLIP's ω, ``(L, L)``: a Gaussian of the distance of two patches in the grid; 0 for CLS."""
    rows, cols = (torch.arange(side, device=device, dtype=torch.float32) for side in grid)
    places = torch.cartesian_prod(rows, cols)
    squared = (places[:, None] - places[None]).square().sum(-1)
    return F.pad((-squared / (2 * sigma**2)).exp(), (1, 0, 1, 0))
