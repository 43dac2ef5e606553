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

PERCENTILES = (0.01, 0.99)  # colours are spread between them, so that a few odd patches do not take all


@dataclass
class TokenView:
    """Output of one network for one image, float32 on the CPU.

    Args:
        patches: Patch tokens ``(M, C)``.
        grid: Their patch grid.
        attention: From CLS to each patch, ``(heads, M')``, or None.
        attention_grid: Patch grid of the attention: a teacher has its own.
        rollout: Attention of all layers together ``(M',)``, or None.
    """

    patches: Tensor
    grid: Grid
    attention: Tensor | None = None
    attention_grid: Grid | None = None
    rollout: Tensor | None = None


@torch.no_grad()
def view_student(model: ViewedModel, pixels: Tensor, layer: int = -1) -> TokenView:
    """Look into a model's student; without ``blockwise`` it has its last layer only, and no attention.

    Args:
        model: Holds the student.
        pixels: ``(1, 3, H, W)`` on the 0–255 scale, whole patches.
        layer: Block; negative counts from the end. Default: the last, as DINO's (the paper does not say).

    Raises:
        ValueError: If there is no such block.
    """
    student = model.student
    images, grid = model.normalised(pixels), _grid(pixels, student.patch_size)
    if not hasattr(student, 'blockwise'):
        if layer != -1:
            raise ValueError(f'{model.title} shows its last layer only: it has no blockwise(images)')
        return TokenView(student.encode_image(images)[1][0].float().cpu(), grid)
    if not -student.num_layers <= layer < student.num_layers:
        raise ValueError(f'{model.title} has no layer {layer}: it has {student.num_layers}, counted from 0')
    rolled: Tensor | None = None
    for attention, tokens in islice(student.blockwise(images), layer % student.num_layers + 1):  # noqa: B007
        rolled = roll_out(attention, rolled)
    extra = tokens.shape[1] - grid[0] * grid[1]
    view = TokenView(tokens[0, extra:].float().cpu(), grid)
    if extra and rolled is not None:
        view.attention, view.attention_grid = attention[0, :, 0, extra:].float().cpu(), grid
        view.rollout = rolled[0, 0, extra:].float().cpu()
    return view


@torch.no_grad()
def view_teacher(
    model: ViewedModel, pixels: Tensor, with_attention: bool = False, title: str | None = None
) -> TokenView:
    """Look at a teacher's targets on the student's grid, and if wanted at its last layer's attention.

    The teacher is the first, or that of a ``title`` among ``model.teachers``.

    Raises:
        ValueError: If there is no teacher, or its attention cannot be had.
    """
    if not model.teachers:
        raise ValueError(f'{model.title} has no teacher')
    teacher = model.teachers[title or next(iter(model.teachers))]
    images = model.normalised(pixels)
    _, patches = teacher.embed_image(images)
    view = TokenView(patches[0].float().cpu(), _grid(pixels, teacher.patch_size))
    if with_attention:
        attention, view.attention_grid = teacher.cls_attention(images)
        view.attention = attention[0].float().cpu()
    return view


def _grid(pixels: Tensor, patch_size: int) -> Grid:
    return pixels.shape[-2] // patch_size, pixels.shape[-1] // patch_size


def roll_out(attention: Tensor, below: Tensor | None) -> Tensor:
    """Add a block's attention ``(B, heads, L, L)`` to the rollout ``(B, L, L)`` of the blocks below it."""
    # As in Abnar and Zuidema (2020), heads are averaged; the skip connection counts as much as they do.
    mixing = attention.mean(dim=1)
    mixing = (mixing + torch.eye(mixing.shape[-1], device=mixing.device)) / 2
    return mixing if below is None else mixing @ below


def patch_similarity(patches: Tensor, index: int) -> Tensor:
    """Cosine of one patch's token with all: ``(M, C)`` to ``(M,)``."""
    return F.cosine_similarity(patches, patches[index], dim=-1)


def token_colours(patches: Sequence[Tensor]) -> list[Tensor]:
    """Colour images' tokens ``(M, C)`` by their common first principal components, RGB 0–1 ``(M, 3)``."""
    tokens = torch.cat(list(patches)).double()
    centred = tokens - tokens.mean(dim=0)
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -3:].flip(1)
    # An eigenvector's sign is arbitrary: the largest entry is made positive, so that runs agree.
    directions = directions * directions.gather(0, directions.abs().argmax(dim=0, keepdim=True)).sign()
    scores = centred @ directions
    low, high = (torch.quantile(scores, share, dim=0) for share in PERCENTILES)
    spread = high - low
    flat = spread <= 1e-9 * scores.abs().max().clamp(min=1e-300)
    colours = ((scores - low) / spread.clamp(min=1e-300)).clamp(0, 1)
    colours[:, flat] = 0.5
    return list(colours.float().split([len(part) for part in patches]))
