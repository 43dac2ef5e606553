"""Adaptive average pooling whose gradient is the same twice, which CUDA's is not."""

import torch
from torch import Tensor, nn


class RepeatableAvgPool2d(nn.AdaptiveAvgPool2d):
    """``nn.AdaptiveAvgPool2d``; where torch has to be deterministic, by two matrix products.

    CUDA adds up the gradient in an order of its own, and under ``torch.use_deterministic_algorithms`` refuses
    to. The mean over windows is linear in each axis, and so is its gradient.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Pool images.

        Args:
            input: ``(..., H, W)``.

        Returns:
            Means ``(..., *output_size)``, in the precision of the input.
        """
        if not torch.are_deterministic_algorithms_enabled():
            return super().forward(input)
        sizes = self.output_size if isinstance(self.output_size, tuple) else (self.output_size,) * 2
        rows, cols = (
            _windows(side, side if size is None else size, input)
            for side, size in zip(input.shape[-2:], sizes, strict=True)
        )
        with torch.autocast(input.device.type, enabled=False):
            return (rows @ input.to(rows.dtype) @ cols.T).to(input.dtype)


def repeat_pooling(model: nn.Module) -> None:
    """Put :class:`RepeatableAvgPool2d` in the place of every ``nn.AdaptiveAvgPool2d``; names stay."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.AdaptiveAvgPool2d:
                setattr(module, name, RepeatableAvgPool2d(child.output_size))


def _windows(side: int, size: int, like: Tensor) -> Tensor:
    """Weights ``(size, side)`` of the means over torch's windows, which may overlap."""
    place = torch.arange(size)[:, None]
    start, end = place * side // size, -((-(place + 1) * side) // size)
    inside = torch.arange(side)
    weights = ((inside >= start) & (inside < end)) / (end - start).double()
    return weights.to(like.device, torch.promote_types(like.dtype, torch.float32), non_blocking=True)
