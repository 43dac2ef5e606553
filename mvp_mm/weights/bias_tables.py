"""BEiT's relative position bias tables: index them, and resize them to another patch grid.

Shapes: ``Wh, Ww`` the patch grid; ``L = Wh * Ww + 1`` tokens, CLS first. A table has
``(2 * Wh - 1) * (2 * Ww - 1) + 3`` rows, one for each relative offset and three for CLS
(CLS to patch, patch to CLS, CLS to CLS), and one column per head.
"""

from functools import lru_cache

import numpy as np
import torch
from scipy.interpolate import make_interp_spline
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
    rows, cols = window
    # On the CPU whatever the default device, because the result is cached.
    row = torch.arange(rows, device='cpu').repeat_interleave(cols)
    col = torch.arange(cols, device='cpu').repeat(rows)
    row_offset = row[:, None] - row[None, :] + rows - 1
    col_offset = col[:, None] - col[None, :] + cols - 1
    last = num_table_rows(window) - 1
    index = torch.full((rows * cols + 1,) * 2, last, dtype=torch.long, device='cpu')
    index[1:, 1:] = row_offset * (2 * cols - 1) + col_offset
    index[0, 1:] = last - 2
    index[1:, 0] = last - 1
    return index


def relative_position_index(window: Grid) -> Tensor:
    """Return the table row of every (query, key) pair of a grid: int64 ``(L, L)``, CLS first."""
    return _index(tuple(window)).clone()


def _geometric_positions(source: int, target: int) -> np.ndarray:
    """Place the offsets of a ``source``-patch axis on those of a ``target`` one, as BEiT's fine-tuning does.

    Gaps grow geometrically away from offset 0, by the ratio in [1.01, 1.5], found by bisection to 1e-6, that
    puts the outermost position on the target's outermost offset.
    """
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio ** (source - 1)) / (1 - ratio) > target - 1:
            high = ratio
        else:
            low = ratio
    gaps = ratio ** np.arange(source - 1)
    outward = np.cumsum(gaps)
    return np.concatenate([-outward[::-1], [0.0], outward])


@lru_cache(maxsize=64)
def _axis_weights(source: int, target: int) -> np.ndarray:
    """Return the ``(2 * target - 1, 2 * source - 1)`` matrix that resamples one axis of a table.

    A cubic spline is linear in its values, so the spline of the identity is this matrix. Offsets outside of
    the source's range take its border value, as in FITPACK's ``interp2d``, which BEiT used.
    """
    if source == target:
        return np.eye(2 * source - 1)
    if source == 1:
        return np.ones((2 * target - 1, 1))
    positions = _geometric_positions(source, target)
    wanted = np.arange(-(target - 1), target, dtype=np.float64)
    degree = min(3, len(positions) - 1)
    spline = make_interp_spline(positions, np.eye(len(positions)), k=degree)
    return spline(np.clip(wanted, positions[0], positions[-1]))


def resize_table(table: Tensor, source: Grid, target: Grid) -> Tensor:
    """Resize a bias table from one patch grid to another on BEiT's geometric grid.

    Equals BEiT's own resizing (cubic ``interp2d``, which SciPy 1.14 removed) for square grids; in others each
    axis has its own ratio. Differentiable in ``table``.

    Args:
        table: ``(rows of source, num_heads)``, any float dtype.
        source: Patch grid ``(Wh, Ww)`` of ``table``.
        target: Patch grid wanted.

    Returns:
        ``(rows of target, num_heads)`` in the dtype of ``table``; the three CLS rows are copied.

    Raises:
        ValueError: If the table does not have the rows of ``source``.
    """
    if table.shape[0] != num_table_rows(source):
        raise ValueError(
            f'a relative position table of a {source[0]}x{source[1]} grid has '
            f'{num_table_rows(source)} rows, but this one has {table.shape[0]}. '
            'Give the patch grid that the table was trained with.'
        )
    if tuple(source) == tuple(target):
        return table
    row_weights, col_weights = (
        torch.as_tensor(_axis_weights(s, t), dtype=torch.float32, device=table.device)
        for s, t in zip(source, target, strict=True)
    )
    with torch.autocast(table.device.type, enabled=False):
        body = table[:-3].float().view(2 * source[0] - 1, 2 * source[1] - 1, -1)
        body = torch.einsum('ij,kl,jlh->ikh', row_weights, col_weights, body)
    return torch.cat([body.flatten(0, 1).to(table.dtype), table[-3:]])
