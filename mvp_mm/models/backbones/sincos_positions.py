"""Fixed positions: sines and cosines of a patch's column and row."""

import torch
from torch import Tensor

from ...weights.bias_tables import Grid


def sincos_positions(grid: Grid, width: int, num_extra_tokens: int = 0) -> Tensor:
    """Return MAE's position embeddings ``(1, num_extra_tokens + h * w, width)``, zeros for extra tokens.

    A quarter of the channels each: sine and cosine of the column, then of the row (mmpretrain's: row first).

    Raises:
        ValueError: If the width is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f'sin-cos positions need a width that 4 divides, got {width}')
    rates = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing='ij')
    angles = [axis.flatten()[:, None] * rates for axis in (columns, rows)]
    patches = torch.cat([function(angle) for angle in angles for function in (torch.sin, torch.cos)], dim=1)
    return torch.cat([patches.new_zeros(num_extra_tokens, width), patches])[None].float()
