"""What a vision transformer looks at: attention of CLS, rollout, similar patches, colours of tokens.

Shape legend: (h, w) patch grid, M = h * w patches, C width of a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F

from ..weights.bias_tables import Grid
from .viewed_model import ViewedModel

PERCENTILES = (0.01, 0.99)  # between which colours are spread: a few odd patches do not take all of them


@dataclass
class TokenView:
    """What one network makes of one image.

    Args:
        patches: Tokens of the patches ``(M, C)``, float32 on the CPU.
        grid: Their patch grid.
        attention: From CLS to each patch, ``(heads, M')``; None where there is none.
        attention_grid: The grid of the attention, which a teacher has of its own.
        rollout: Attention of all layers together ``(M',)``, or None.
    """

    patches: Tensor
    grid: Grid
    attention: Tensor | None = None
    attention_grid: Grid | None = None
    rollout: Tensor | None = None


@torch.no_grad()
def view_student(model: ViewedModel, pixels: Tensor, layer: int = -1) -> TokenView:
    """Look into the student.

    Args:
        model: Whose student.
        pixels: ``(1, 3, H, W)`` on the 0–255 scale, whole patches.
        layer: Block whose attention and tokens are wanted; negative counts from the end. Default: the last
            (SPEC: the paper does not say which; DINO's figures show the last). The last one's tokens are
            after the final norm, where there is one.

    Raises:
        ValueError: If there is no such block.
    """
    vit = model.vit
    if not -vit.num_layers <= layer < vit.num_layers:
        raise ValueError(f'{model.title} has no layer {layer}: it has {vit.num_layers}, counted from 0')
    images = model.normalised(pixels)
    grid = (images.shape[-2] // vit.patch_size, images.shape[-1] // vit.patch_size)
    rolled = None
    for step in islice(vit.blockwise(images), layer % vit.num_layers + 1):
        attention, tokens = step
        rolled = roll_out(attention, rolled)
    extra = vit.num_extra_tokens
    view = TokenView(tokens[0, extra:].float().cpu(), grid)
    if extra:
        view.attention = attention[0, :, 0, extra:].float().cpu()
        view.attention_grid = grid
        view.rollout = rolled[0, 0, extra:].float().cpu()
    return view


@torch.no_grad()
def view_teacher(model: ViewedModel, pixels: Tensor, with_attention: bool = False) -> TokenView:
    """Look into the teacher, through what it gives the student: its targets, on the student's grid.

    Args:
        model: Whose teacher.
        pixels: As for :func:`view_student`.
        with_attention: The attention of its last layer too. Rollout is not offered.

    Raises:
        ValueError: If its attention is asked for and cannot be had.
    """
    images = model.normalised(pixels)
    patch_size = model.teacher.patch_size
    grid = (images.shape[-2] // patch_size, images.shape[-1] // patch_size)
    view = TokenView(model.teacher(images)[0, 1:].float().cpu(), grid)
    if with_attention:
        attention, view.attention_grid = model.teacher.cls_attention(images)
        view.attention = attention[0].float().cpu()
    return view


def roll_out(attention: Tensor, below: Tensor | None) -> Tensor:
    """Attention rollout (Abnar and Zuidema 2020): how much of each input token is in each token.

    Args:
        attention: Probabilities of a block ``(B, heads, L, L)``; the heads are averaged, and the skip
            connection counts as much as the attention.
        below: Rollout of the blocks below ``(B, L, L)``, or None for the first.

    Returns:
        ``(B, L, L)``; each row sums to one.
    """
    mixing = attention.mean(dim=1)
    mixing = (mixing + torch.eye(mixing.shape[-1], device=mixing.device)) / 2
    return mixing if below is None else mixing @ below


def patch_similarity(patches: Tensor, index: int) -> Tensor:
    """Cosine of one patch's token with all: ``(M, C)`` to ``(M,)``."""
    unit = F.normalize(patches, dim=-1)
    return unit @ unit[index]


def token_colours(patches: Sequence[Tensor]) -> list[Tensor]:
    """Colours of patches by the three main directions in which their tokens differ.

    Args:
        patches: Tokens ``(M, C)``, one entry an image. The directions are those of all images together,
            so that like patches of two images have like colours.

    Returns:
        RGB from 0 to 1, ``(M, 3)`` an image.
    """
    everything = torch.cat(list(patches)).double()
    mean = everything.mean(dim=0)
    # Principal components: eigenvectors of the covariance, the greatest eigenvalues last.
    centred = everything - mean
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -3:].flip(1)
    # An eigenvector's sign is arbitrary: the largest entry is made positive, so that runs agree.
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    directions = directions * largest.sign()
    scores = centred @ directions
    low, high = (torch.quantile(scores, share, dim=0) for share in PERCENTILES)
    spread = high - low
    flat = spread <= 1e-9 * scores.abs().max().clamp(min=1e-300)
    colours = ((scores - low) / spread.clamp(min=1e-300)).clamp(0, 1)
    colours[:, flat] = 0.5
    return list(colours.float().split([len(part) for part in patches]))
