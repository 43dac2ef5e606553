"""RILS's decoder: one transformer block that fills in the masked patches.

Shape legend: B batch, M patches, V visible ones, C width.
"""

from typing import Any

import torch
from mmpretrain.models.utils import build_norm_layer
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ...weights.bias_tables import Grid
from ..backbones.mvp_block import MVPBlock
from ..backbones.sincos_positions import sincos_positions


@MODELS.register_module()
class RILSDecoder(nn.Module):
    """Predict every patch from the visible ones, which the encoder has seen alone.

    :class:`RILS` gives the first four arguments, those of its encoder, unless the config does.

    Args:
        embed_dims: C.
        num_heads: Attention heads.
        grid: Patch grid ``(h, w)``, or its side.
        feedforward_channels: Default None: 4 C.
        out_channels: Width of a prediction. Default None: C (RILS); for MAE the values of a patch.
        depth: Blocks. Default 1 (RILS).
        norm_cfg: Of the norms. Default eps 1e-6 (the authors').
    """

    positions: Tensor

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        grid: int | Grid,
        feedforward_channels: int | None = None,
        out_channels: int | None = None,
        depth: int = 1,
        norm_cfg: dict = dict(type='LN', eps=1e-6),  # noqa: B006
    ) -> None:
        super().__init__()
        self.grid = (grid, grid) if isinstance(grid, int) else (grid[0], grid[1])
        self.embed = nn.Linear(embed_dims, embed_dims)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        self.register_buffer('positions', sincos_positions(self.grid, embed_dims, 1), persistent=False)
        hidden = feedforward_channels or 4 * embed_dims
        block: dict[str, Any] = dict(window=None, layer_scale_init_value=0.0, norm_cfg=norm_cfg)
        self.layers = nn.ModuleList(MVPBlock(embed_dims, num_heads, hidden, **block) for _ in range(depth))
        self.norm = build_norm_layer(norm_cfg, embed_dims)
        self.predict = nn.Linear(embed_dims, out_channels or embed_dims)
        init_as_mae(self)

    def forward(self, visible: Tensor, mask: Tensor) -> Tensor:
        """Decode to ``(B, 1 + M, out_channels)``, CLS first, patches row by row.

        Args:
            visible: ``(B, 1 + V, C)``, CLS first, as of :meth:`.MVPViT.encode_visible`.
            mask: ``(B, h, w)`` or ``(B, M)`` bool, True = masked.
        """
        hidden = mask.to(torch.bool).flatten(1)
        if hidden.shape[1] != self.grid[0] * self.grid[1]:
            raise ValueError(f'a mask of {tuple(mask.shape[1:])} patches, but the grid is {self.grid}')
        tokens = self.embed(visible)
        # The patch that comes next among the visible ones; hidden patches get one, too, and do not use it.
        places = (~hidden).cumsum(1).sub_(1).clamp_(min=0)[..., None].expand(-1, -1, tokens.shape[2])
        patches = tokens[:, 1:].gather(1, places)
        patches = torch.where(hidden[..., None], self.mask_token.to(patches.dtype), patches)
        tokens = torch.cat([tokens[:, :1], patches], dim=1) + self.positions
        for layer in self.layers:
            tokens = layer(tokens, self.grid)
        return self.predict(self.norm(tokens))


def init_as_mae(module: nn.Module) -> None:
    """Initialise as MAE and RILS: linear layers and patch embeddings Xavier, tokens normal(0, 0.02)."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(part.weight.data.flatten(1))  # of a convolution a view
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        for name in ('cls_token', 'mask_token'):
            token = getattr(part, name, None)
            if isinstance(token, nn.Parameter):
                nn.init.normal_(token, std=0.02)
