"""RILS's projection of image tokens into the joint space."""

from mmpretrain.registry import MODELS
from torch import nn


@MODELS.register_module()
class ImageProjection(nn.Linear):
    """Project tokens ``(..., C)`` to ``(..., D)``, without bias; an image is the mean of its patches.

    Args:
        in_channels: Width C of the encoder.
        out_channels: Joint embedding width D.
    """

    pools_patches = True  # see :func:`.projected`

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, bias=False)

    def reset_parameters(self) -> None:
        """Initialise by normal(0, C^-0.5), as CLIP's projections (the authors')."""
        nn.init.normal_(self.weight, std=self.in_features**-0.5)
