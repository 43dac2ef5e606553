"""Cosines of every pixel with names, by sliding windows (the protocol of SCLIP, mmseg's windows).

Shape legend: B batch, (H, W) image in pixels, N names, K classes.
"""

from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .class_embeddings import ClassEmbeddings

SCALE = 40.0  # of the cosines before the softmax: SCLIP
WINDOWS = 32  # encoded at a time
NAMES = 32  # compared at full size at a time


@torch.no_grad()
def dense_cosines(
    model: Any, images: Tensor, embeddings: ClassEmbeddings, window: int, stride: int
) -> Tensor:
    """Compute the cosine of every pixel with every name, ``(B, N, H, W)`` float32.

    Cosines of patches are resized bilinearly to their window, and averaged where windows overlap.

    Args:
        model: A :class:`.Speaks`, of which ``embed_image`` and ``patch_size`` are used.
        images: ``(B, 3, H, W)``, normalised for the model.
        embeddings: Of the names, on the images' device.
        window: Side in pixels, at most the image's; padded with zeros to whole patches, and cut again.
        stride: Pixels from a window to the next.
    """
    if not 1 <= stride <= window:
        raise ValueError(f'stride={stride}: expected 1 to {window}, the window')
    height, width = images.shape[-2:]
    size, patch = (min(window, height), min(window, width)), model.patch_size
    grid = (-(-size[0] // patch), -(-size[1] // patch))
    padded = (grid[0] * patch, grid[1] * patch)
    places = list(product(_starts(height, window, stride), _starts(width, window, stride)))
    total = images.new_zeros(len(images), len(embeddings.owner), height, width, dtype=torch.float32)
    count = total.new_zeros(height, width)
    step = max(1, WINDOWS // len(images))
    for first in range(0, len(places), step):
        some = places[first : first + step]
        crops = torch.cat([images[..., top : top + size[0], left : left + size[1]] for top, left in some])
        _, patches = model.embed_image(F.pad(crops, (0, padded[1] - size[1], 0, padded[0] - size[0])))
        cosines = embeddings.cosines(patches).transpose(1, 2).unflatten(2, grid)
        cosines = F.interpolate(cosines, padded, mode='bilinear')[..., : size[0], : size[1]]
        for (top, left), part in zip(some, cosines.split(len(images)), strict=True):
            total[..., top : top + size[0], left : left + size[1]] += part
            count[top : top + size[0], left : left + size[1]] += 1
    return total / count


def _starts(side: int, window: int, stride: int) -> list[int]:
    """Where windows begin, as mmseg's: the last one ends with the image."""
    count = max(side - window + stride - 1, 0) // stride + 1
    return [max(min(number * stride + window, side) - window, 0) for number in range(count)]


def label_map(
    cosines: Tensor,
    embeddings: ClassEmbeddings,
    size: tuple[int, int] | None = None,
    scale: float = SCALE,
    background: int | None = None,
    threshold: float | None = None,
) -> Tensor:
    """Classify every pixel, int64 ``(B, H, W)``: softmax over all names, then the class of the largest.

    Args:
        cosines: ``(B, N, h, w)`` of :func:`dense_cosines`.
        embeddings: Of the names.
        size: ``(H, W)`` that cosines are first resized to, bilinearly. Default None: their own.
        scale: Factor of the cosines. Default 40 (SCLIP).
        background: Class of pixels whose largest probability is below ``threshold``. Default None.
        threshold: Default None: no pixel becomes background for its probability (0.1 for VOC21, Context60).
    """
    if (background is None) != (threshold is None):
        raise ValueError(f'{background=}, {threshold=}: expected both or neither')
    best: Tensor | None = None  # of the names so far: the largest cosine, its class, the softmax's logsumexp
    # Some at a time: all names of a large photograph would take gigabytes.
    for part, owner in zip(cosines.split(NAMES, dim=1), embeddings.owner.split(NAMES), strict=True):
        if size is not None and size != tuple(part.shape[-2:]):
            part = F.interpolate(part, size, mode='bilinear')
        value, index = part.max(1)
        sums = (scale * part).logsumexp(1)
        if best is None:
            best, labels, total = value, owner[index], sums
        else:
            labels = torch.where(value > best, owner[index], labels)
            best, total = torch.maximum(value, best), torch.logaddexp(total, sums)
    if best is None:
        raise ValueError('there are no names to compare with')
    if background is None or threshold is None:
        return labels
    return labels.masked_fill((scale * best - total).exp() < threshold, background)
