"""MAE beside CLIP: the baseline that reconstructs pixels where RILS reconstructs language."""

from typing import Any

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from .rils import RILS

VARIANCE_FLOOR = 1e-6  # MAE, norm_pix_loss


@MODELS.register_module()
class MAECLIP(RILS):
    """RILS's encoders, masked pass, decoder and contrastive loss with MAE's target: normalised pixels.

    The decoder predicts each masked patch's pixels, normalised by the patch's mean and variance, in every
    image; the loss is the mean squared error. Arguments as of :class:`RILS`, but for ``reconstruction_loss``.
    """

    def _decoder_defaults(self) -> dict[str, Any]:
        return dict(super()._decoder_defaults(), out_channels=3 * self.backbone.patch_size**2)

    def _build_reconstruction(self, loss: dict | nn.Module | None) -> None:
        if loss is not None:
            raise ValueError('MAECLIP has a loss of its own: leave out reconstruction_loss')

    def reconstruct(
        self,
        prediction: Tensor,
        patches: Tensor,
        texts: Tensor,
        mask: Tensor,
        retrieved: Tensor,
        images: Tensor,
    ) -> Tensor:
        """MAE's loss of predictions ``(B, M, 3 p p)``; see :meth:`.RILS.reconstruct`."""
        side = self.patch_size
        target = F.unfold(images.float(), side, stride=side).transpose(1, 2)
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        target, hidden = (target - mean) / (variance + VARIANCE_FLOOR).sqrt(), mask.bool()
        return F.mse_loss(prediction.float()[hidden], target[hidden])
