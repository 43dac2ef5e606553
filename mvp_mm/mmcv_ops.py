"""The compiled operators of mmcv that two-stage detectors call, by torchvision's; see ``stack.provide_ops``.

Stands in for ``mmcv._ext``: non-maximum suppression and RoI align run, any other operator raises an error.
"""

from collections.abc import Callable

import torch
import torchvision
from torch import Tensor

MEAN = 1  # mmcv's number of RoI align's pooling mode


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return which of ``(N, 4)`` boxes are kept, by descending score."""
    if offset:
        _refuse(f'non-maximum suppression with offset={offset}')
    return torchvision.ops.nms(boxes.float(), scores.float(), iou_threshold)


def roi_align_forward(
    maps: Tensor,
    rois: Tensor,
    output: Tensor,
    _argmax_y: Tensor,
    _argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``output``, ``(N, C, aligned_height, aligned_width)``, from maps and ``(N, 5)`` boxes."""
    if pool_mode != MEAN:
        _refuse('RoI align by the maximum')
    size = aligned_height, aligned_width
    output.copy_(
        torch.ops.torchvision.roi_align(
            maps.float(), rois.float(), spatial_scale, *size, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    gradient: Tensor,
    rois: Tensor,
    _argmax_y: Tensor,
    _argmax_x: Tensor,
    of_maps: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``of_maps``, the gradient of the maps."""
    size = aligned_height, aligned_width
    of_maps.copy_(
        torch.ops.torchvision._roi_align_backward(
            gradient.float(), rois.float(), spatial_scale, *size, *of_maps.shape, sampling_ratio, aligned
        )
    )


def __getattr__(name: str) -> Callable:
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return lambda *args, **kwargs: _refuse(name)


def _refuse(operator: str) -> None:
    raise NotImplementedError(
        f'{operator} needs the compiled operators of mmcv, and this installation has none: install an mmcv '
        'built with MMCV_WITH_OPS=1'
    )
