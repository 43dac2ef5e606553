"""The prediction head of Eq. 8: one fully-connected layer."""

from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn.init import trunc_normal_


@MODELS.register_module()
class MVPNeck(BaseModule):
    """Project the student's tokens into the teacher's space (paper §3.3, "only one fully-connected layer").

    Args:
        in_channels: Student width C.
        out_channels: Target width D; 512 for CLIP ViT-B/16.
        init_cfg: MMEngine initialisation. Default None: BEiT's, normal(0, 0.02) cut at ±0.02, bias zero.
    """

    def __init__(self, in_channels: int, out_channels: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.fc = nn.Linear(in_channels, out_channels)
        trunc_normal_(self.fc.weight, std=0.02, a=-0.02, b=0.02)
        nn.init.zeros_(self.fc.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Project ``(B, 1+M, C)`` to ``(B, 1+M, D)``, CLS first."""
        return self.fc(tokens)
