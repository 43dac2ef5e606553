"""Adaptive average pooling with a deterministic gradient, which CUDA's is not."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RepeatableAvgPool2d(nn.AdaptiveAvgPool2d):
    """``nn.AdaptiveAvgPool2d``; under deterministic algorithms two matrix products.

    CUDA adds up the gradient in no fixed order, which ``torch.use_deterministic_algorithms`` refuses.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Pool ``(..., H, W)`` to ``(..., *output_size)``, in the input's dtype."""
        if not torch.are_deterministic_algorithms_enabled():
            return super().forward(input)
        sizes = self.output_size if isinstance(self.output_size, tuple) else (self.output_size,) * 2
        rows, cols = (
            _mean_weights(side, side if size is None else size, input)
            for side, size in zip(input.shape[-2:], sizes, strict=True)
        )
        with torch.autocast(input.device.type, enabled=False):
            return (rows @ input.to(rows.dtype) @ cols.T).to(input.dtype)


def repeat_pooling(model: nn.Module) -> None:
    """Replace every ``nn.AdaptiveAvgPool2d`` of a model by :class:`RepeatableAvgPool2d`; names stay."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.AdaptiveAvgPool2d:
                setattr(module, name, RepeatableAvgPool2d(child.output_size))


def _mean_weights(side: int, size: int, like: Tensor) -> Tensor:
    """Weights ``(size, side)`` of torch's windows, found by pooling the identity on the CPU."""
    weights = F.adaptive_avg_pool1d(torch.eye(side, dtype=torch.float64), size).T
    return weights.to(like.device, torch.promote_types(like.dtype, torch.float32), non_blocking=True)
