"""BEiT's relative position bias tables: index them, and resize them to another patch grid.

Shapes: ``Wh, Ww`` the patch grid; ``L = Wh * Ww + 1`` tokens, CLS first. A table has one column per head and
``(2 * Wh - 1) * (2 * Ww - 1) + 3`` rows, one for each offset and three for CLS to patch, back, and itself.
"""

from functools import lru_cache

import numpy as np
import torch
from scipy.interpolate import make_interp_spline
from timm.layers.pos_embed_rel import gen_relative_position_index
from torch import Tensor

Grid = tuple[int, int]

# BEiT's names of a table and of its index in state dicts.
TABLE = 'relative_position_bias_table'
INDEX = 'relative_position_index'
SHARED_TABLE = f'rel_pos_bias.{TABLE}'


def num_table_rows(window: Grid) -> int:
    """Return the rows of a ``(Wh, Ww)`` grid's table, the three for CLS included."""
    return (2 * window[0] - 1) * (2 * window[1] - 1) + 3


@lru_cache(maxsize=32)
def _index(window: Grid) -> Tensor:
    with torch.device('cpu'):  # whatever the default device, because the result is cached
        return gen_relative_position_index(window, class_token=True)


def relative_position_index(window: Grid) -> Tensor:
    """Return the table row of every (query, key) pair of a grid: int64 ``(L, L)``, CLS first."""
    return _index(tuple(window)).clone()


def _geometric_positions(source: int, target: int) -> np.ndarray:
    """Place the offsets of a ``source``-patch axis on those of a ``target`` one, as BEiT's fine-tuning does.

    Gaps grow geometrically away from offset 0, by the ratio that puts the outermost on the outermost.
    """
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio ** (source - 1)) / (1 - ratio) > target - 1:
            high = ratio
        else:
            low = ratio
    outward = np.cumsum(ratio ** np.arange(source - 1))
    return np.concatenate([-outward[::-1], [0.0], outward])


@lru_cache(maxsize=64)
def _axis_weights(source: int, target: int) -> np.ndarray:
    """Return the ``(2 * target - 1, 2 * source - 1)`` matrix that resamples one axis of a table by a spline.

    Offsets outside of the source's range take its border value, as in BEiT's ``interp2d``.
    """
    if source == target:
        return np.eye(2 * source - 1)
    if source == 1:
        return np.ones((2 * target - 1, 1))
    positions = _geometric_positions(source, target)
    spline = make_interp_spline(positions, np.eye(len(positions)), k=min(3, len(positions) - 1))
    return spline(np.clip(np.arange(1.0 - target, target), positions[0], positions[-1]))


def axis_weights(source: int, target: int) -> Tensor:
    """Return the float32 matrix of :func:`resize_table` for one side: its result is linear in the table."""
    return torch.as_tensor(_axis_weights(source, target), dtype=torch.float32)


def resize_table(table: Tensor, source: Grid, target: Grid) -> Tensor:
    """Resize a ``(rows of source, num_heads)`` table to ``(rows of target, num_heads)``; CLS rows are copied.

    Equals BEiT's own resizing (cubic ``interp2d``, which SciPy 1.14 removed) for square grids; in others each
    axis has its own ratio. Differentiable in ``table``, whose dtype is kept.
    """
    if table.shape[0] != num_table_rows(source):
        raise ValueError(
            f'a relative position table of a {source[0]}x{source[1]} grid has {num_table_rows(source)} rows, '
            f'but this one has {table.shape[0]}. Give the patch grid that the table was trained with.'
        )
    if tuple(source) == tuple(target):
        return table
    row_weights, col_weights = (
        axis_weights(s, t).to(table.device) for s, t in zip(source, target, strict=True)
    )
    with torch.autocast(table.device.type, enabled=False):
        body = table[:-3].float().view(2 * source[0] - 1, 2 * source[1] - 1, -1)
        body = torch.einsum('ij,kl,jlh->ikh', row_weights, col_weights, body)
    return torch.cat([body.flatten(0, 1).to(table.dtype), table[-3:]])
