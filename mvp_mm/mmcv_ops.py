"""The compiled operators of mmcv that two-stage detectors call, by torchvision's; see ``stack.provide_ops``.

Stands in for ``mmcv._ext``: non-maximum suppression and RoI align run, any other operator raises an error.
"""

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor

MEAN = 1  # mmcv's number of RoI align's pooling mode


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return which of ``(N, 4)`` boxes are kept, by descending score."""
    if offset:
        _refuse(f'non-maximum suppression with offset={offset}')
    return torchvision.ops.nms(boxes.float(), scores.float(), iou_threshold)


def roi_align_forward(maps: Tensor, rois: Tensor, output: Tensor, *_argmax: Tensor, **options: Any) -> None:
    """Fill ``output``, ``(N, C, aligned_height, aligned_width)``, from maps and ``(N, 5)`` boxes."""
    options = _for_torchvision(**options)
    output.copy_(torch.ops.torchvision.roi_align(maps.float(), rois.float(), **options))


def roi_align_backward(
    gradient: Tensor, rois: Tensor, _argmax_y: Tensor, _argmax_x: Tensor, of_maps: Tensor, **options: Any
) -> None:
    """Fill ``of_maps``, the gradient of the maps."""
    sizes = dict(zip(('batch_size', 'channels', 'height', 'width'), of_maps.shape, strict=True))
    options = _for_torchvision(**options) | sizes
    of_maps.copy_(torch.ops.torchvision._roi_align_backward(gradient.float(), rois.float(), **options))


def _for_torchvision(*, aligned_height: int, aligned_width: int, pool_mode: int, **others: Any) -> dict:
    """Rename mmcv's options of RoI align."""
    if pool_mode != MEAN:
        _refuse('RoI align by the maximum')
    return dict(pooled_height=aligned_height, pooled_width=aligned_width, **others)


def __getattr__(name: str) -> Callable:
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return lambda *args, **kwargs: _refuse(name)


def _refuse(operator: str) -> None:
    raise NotImplementedError(
        f'{operator} needs the compiled operators of mmcv, and this installation has none: install an mmcv '
        'built with MMCV_WITH_OPS=1'
    )
