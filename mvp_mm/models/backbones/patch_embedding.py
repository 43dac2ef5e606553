"""Patch embedding as one matrix product, where that is faster than a convolution."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def embed_patches(images: Tensor, projection: nn.Conv2d) -> Tensor:
    """Project ``(B, 3, H, W)`` to ``(B, h, w, C)``, on CUDA by a matrix product.

    cuDNN takes ten times as long for such a convolution, forward and backward (docs/performance.md).
    Incomplete patches at the right and bottom are not used.
    """
    if images.is_cuda and _only_projects(projection):
        return multiply_patches(images, projection)
    return projection(images).permute(0, 2, 3, 1)


def multiply_patches(images: Tensor, projection: nn.Conv2d) -> Tensor:
    """Multiply unfolded patches by the flattened kernel; see :func:`embed_patches`."""
    if torch.is_autocast_enabled(images.device.type):
        images = images.to(torch.get_autocast_dtype(images.device.type))  # before the patches are copied
    height, width = projection.kernel_size
    rows, columns = images.shape[-2] // height, images.shape[-1] // width
    tiles = images[..., : rows * height, : columns * width].unflatten(3, (columns, width))
    tiles = tiles.unflatten(2, (rows, height)).permute(0, 2, 4, 1, 3, 5).flatten(3)
    return F.linear(tiles, projection.weight.flatten(1), projection.bias)


def _only_projects(projection: nn.Module) -> bool:
    if type(projection) is not nn.Conv2d or projection.stride != projection.kernel_size:
        return False
    return (projection.padding, projection.dilation, projection.groups) == ((0, 0), (1, 1), 1)
