"""Tokens as a feature map, for decoders that were written for convolutional networks."""

from mmpretrain.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class TokenMap(nn.Module):
    """Arrange tokens ``(B, 1 + h * w, C)``, CLS first, as ``(B, C, h, w)``.

    Args:
        height: h, in patches.
        width: w, in patches. Default None: as ``height``.
    """

    def __init__(self, height: int, width: int | None = None) -> None:
        super().__init__()
        self.grid = height, width or height

    def forward(self, tokens: Tensor) -> Tensor:
        """Drop CLS and arrange the patches."""
        return tokens[:, 1:].transpose(1, 2).unflatten(2, self.grid)
