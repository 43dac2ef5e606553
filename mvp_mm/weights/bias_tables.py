"""BEiT's relative position tables: their index, and resizing them to another grid.

Shapes: ``Wh, Ww`` the patch grid; ``L = Wh * Ww + 1`` tokens, CLS first; a table has
``(2 * Wh - 1) * (2 * Ww - 1) + 3`` rows, one for each relative offset and three for CLS
(CLS to patch, patch to CLS, CLS to CLS), and one column a head.
"""

from functools import lru_cache

import numpy as np
import torch
from scipy.interpolate import make_interp_spline
from torch import Tensor

Grid = tuple[int, int]

# Names of a table and of its index in state dicts, as BEiT has them.
TABLE = 'relative_position_bias_table'
INDEX = 'relative_position_index'
SHARED_TABLE = f'rel_pos_bias.{TABLE}'


def num_table_rows(window: Grid) -> int:
    """Rows of the table of a ``(Wh, Ww)`` patch grid, the three CLS rows included."""
    return (2 * window[0] - 1) * (2 * window[1] - 1) + 3


@lru_cache(maxsize=32)
def _index(window: Grid) -> Tensor:
    rows, cols = window
    # On the CPU even where a model is built on another default device: the result is kept.
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
    """Table row of every (query, key) pair.

    Args:
        window: Patch grid ``(Wh, Ww)``.

    Returns:
        int64 ``(L, L)``; row 0 and column 0 are CLS.
    """
    return _index(tuple(window)).clone()


def _geometric_positions(source: int, target: int) -> np.ndarray:
    """Where BEiT places the offsets of a ``source``-patch axis on the offsets of a ``target`` one.

    The gaps grow geometrically away from offset 0, by the ratio in [1.01, 1.5] for which the outermost
    position is the outermost offset of the target (found by bisection to 1e-6, as in BEiT's
    fine-tuning code): near offsets keep their meaning, far ones are stretched.
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
    """``(2 * target - 1, 2 * source - 1)`` matrix that resamples one axis of a table.

    Interpolation by a cubic spline is linear in the values, so the spline of the identity matrix is
    the matrix itself. Offsets outside of the source's range take its border value, as FITPACK's
    ``interp2d``, which BEiT used, does.
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

    Equal to BEiT's own resizing (cubic ``interp2d``, gone from SciPy since 1.14) for square grids; for
    non-square ones each axis has its own ratio, BEiT having no rule. Differentiable in ``table``.

    Args:
        table: ``(rows of source, num_heads)``, any float dtype.
        source: Patch grid ``(Wh, Ww)`` of ``table``.
        target: Patch grid wanted.

    Returns:
        ``(rows of target, num_heads)`` in the dtype of ``table``; the three CLS rows are copied.

    Raises:
        ValueError: If ``table`` has not the rows of ``source``.
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
