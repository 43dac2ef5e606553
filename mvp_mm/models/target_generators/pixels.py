"""The image itself as the target: the baseline without a teacher."""

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Grid, TargetGenerator

VARIANCE_FLOOR = 1e-6  # MAE, norm_pix_loss


@MODELS.register_module()
class PixelTargetGenerator(TargetGenerator):
    """Pixels of each patch, normalised by the patch's own mean and variance.

    This is MAE's best target (``norm_pix_loss``); under MVP's cosine loss it equals MAE's mean squared error
    up to a constant. The target for CLS is the whole image shrunk to one patch. Arguments as for
    :class:`TargetGenerator`.
    """

    def __init__(self, patch_size: int = 16, **kwargs) -> None:
        super().__init__(
            teacher=nn.Identity(),
            teacher_patch_size=patch_size,
            teacher_image_size=(8 * patch_size, 8 * patch_size),  # any would do
            teacher_mean=(0.0, 0.0, 0.0),
            teacher_std=(1.0, 1.0, 1.0),
            patch_size=patch_size,
            **kwargs,
        )

    def encode(self, teacher: nn.Module, images: Tensor, grid: Grid) -> Tensor:
        """Return ``(B, 1 + h * w, 3 * p * p)``, the shrunk image first."""
        side = self.patch_size
        patches = F.unfold(images.float(), side, stride=side).transpose(1, 2)
        shrunk = F.adaptive_avg_pool2d(images.float(), side).flatten(1)
        tokens = torch.cat([shrunk[:, None], patches], dim=1)
        variance, mean = torch.var_mean(tokens, dim=-1, keepdim=True)
        return ((tokens - mean) / (variance + VARIANCE_FLOOR).sqrt()).to(images.dtype)
