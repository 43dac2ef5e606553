"""Fit bias tables and position embeddings of a weight file to a model's patch grid.

Grids are compared, not shapes: tables of 8x12 and 12x8 grids have as many rows, and 64 position embeddings
belong to 8x8 patches as well as to 4x16.
"""

import math
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from .bias_tables import INDEX, SHARED_TABLE, TABLE, Grid, num_table_rows, resize_table
from .traits import POSITIONS


@runtime_checkable
class Positioned(Protocol):
    """A transformer that tells the patch grid of its positions, which have BEiT's names."""

    window: Grid
    num_extra_tokens: int
    interpolate_mode: str
    pos_embed: nn.Parameter | None

    def state_dict(self) -> dict[str, Tensor]: ...


def fit_positions(
    weights: Mapping[str, Tensor],
    vit: Positioned,
    prefix: str = '',
    recorded: Grid | None = None,
    given: Grid | None = None,
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Expand the shared bias table, and resize tables and position embeddings to a model's grid.

    Returns new weights, of mmpretrain's names behind ``prefix``, with the model's own indices, and which are
    expanded and resized. Raises as :func:`grid_of_positions`, if the model needs positions.
    """
    own, fitted = vit.state_dict(), dict(weights)
    expanded, resized = [], []
    tables = [name for name in own if name.endswith(TABLE)]
    shared = fitted.get(prefix + SHARED_TABLE)
    if shared is not None and SHARED_TABLE not in own and tables:
        del fitted[prefix + SHARED_TABLE]
        fitted.pop(prefix + SHARED_TABLE.replace(TABLE, INDEX), None)
        fitted.update({prefix + name: shared.clone() for name in tables})
        expanded = tables
    # Loading refuses those of another width.
    alike = {prefix + n: (own[n].ndim, own[n].shape[-1:]) for n in (*tables, POSITIONS) if n in own}
    wanted = {n: value for n, value in fitted.items() if alike.get(n) == (value.ndim, value.shape[-1:])}
    if wanted:
        extra = vit.num_extra_tokens
        source = grid_of_positions(wanted, indices_of(weights, prefix), extra, recorded, given)
        for name, value in wanted.items() if source != tuple(vit.window) else ():
            if name.endswith(TABLE):
                fitted[name] = resize_table(value, source, vit.window)
            else:
                fitted[name] = resize_pos_embed(value, source, vit.window, vit.interpolate_mode, extra)
            resized.append(f'{name.removeprefix(prefix)}: {times(source)} -> {times(vit.window)}')
    # An index follows from the grid; the file's own may be that of another one.
    fitted.update({prefix + name: index for name, index in own.items() if name.endswith(INDEX)})
    return fitted, expanded, resized


def times(grid: Grid) -> str:
    """Return a grid as text: ``'8x12'``."""
    return f'{grid[0]}x{grid[1]}'


def indices_of(weights: Mapping[str, Tensor], prefix: str = '') -> list[Tensor]:
    """Return the index buffers of tables in a state dict."""
    return [value for name, value in weights.items() if name.startswith(prefix) and name.endswith(INDEX)]


def grid_of_positions(
    positions: Mapping[str, Tensor],
    indices: list[Tensor],
    num_extra_tokens: int = 0,
    recorded: Grid | None = None,
    given: Grid | None = None,
) -> Grid:
    """Find the patch grid of tables ``(rows, heads)`` and position embeddings ``(1, tokens, C)``.

    It is the one that the user gives, else the first that fits of the recorded one (:func:`recorded_grid`),
    that of the index buffers beside them, and a square. ``num_extra_tokens`` embeddings belong to no patch.
    """
    tables = {name: len(table) for name, table in positions.items() if name.endswith(TABLE)}
    tokens = {name: value.shape[1] for name, value in positions.items() if name not in tables}
    sides = [(1 + math.isqrt(max(rows - 3, 0))) // 2 for rows in tables.values()]
    sides += [math.isqrt(max(count - num_extra_tokens, 0)) for count in tokens.values()]
    told = [*([recorded] if recorded else []), *_grids_of_index(indices)]
    for grid in [given] if given else [*told, *((side, side) for side in sides if side > 0)]:
        rows, length = num_table_rows(grid), grid[0] * grid[1] + num_extra_tokens
        if set(tables.values()) <= {rows} and set(tokens.values()) <= {length}:
            return grid
    facts = [f'{name} has {rows} rows' for name, rows in tables.items()][:1]
    facts += [
        f'{n} has {count} entries, {num_extra_tokens} of them for no patch' for n, count in tokens.items()
    ]
    tried = f'not the given {times(given)}' if given else 'no square grid, and nothing tells another'
    raise ValueError(
        f'the patch grid of its positions cannot be told: {" and ".join(facts)}, which fits {tried}. Give '
        'the grid at which they were trained, such as model.backbone.init_cfg.grid=8,12; entries for further '
        "tokens, such as DeiT's for distillation, have no place in the model"
    )


def _grids_of_index(indices: list[Tensor]) -> list[Grid]:
    """Return the one grid that the first of these buffers is the index of; a line of patches may be two."""
    if not indices or indices[0].ndim != 2 or len(set(indices[0].shape)) != 1 or len(indices[0]) < 2:
        return []
    patches, first = len(indices[0]) - 1, indices[0][1, 1:].tolist()
    # From the first patch, one step right is one table row less, one step down 2 * columns - 1 less.
    grids = [
        (rows, cols)
        for rows, cols in ((patches // cols, cols) for cols in range(1, patches + 1) if patches % cols == 0)
        if first == [row * (2 * cols - 1) + col for row in range(rows)[::-1] for col in range(cols)[::-1]]
    ]
    return grids if len(grids) == 1 else []
