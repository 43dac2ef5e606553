"""Fit bias tables and position embeddings of a weight file to a model's patch grid.

Grids are compared, not shapes: the table of an 8x12 grid has as many rows as that of a 12x8 grid, and 64
position embeddings belong to 8x8 patches as well as to 4x16.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from .bias_tables import INDEX, SHARED_TABLE, TABLE, Grid, num_table_rows, resize_table

POSITIONS = 'pos_embed'


@runtime_checkable
class Positioned(Protocol):
    """A transformer that tells the patch grid of its positions, which have BEiT's names."""

    window: Grid
    num_extra_tokens: int
    interpolate_mode: str
    pos_embed: nn.Parameter | None

    def state_dict(self) -> dict[str, Tensor]: ...


class Fitted(NamedTuple):
    """Weights with positions for a model's grid; the names are those of :class:`LoadReport`."""

    weights: dict[str, Tensor]
    expanded: list[str]
    resized: list[str]


def fit_positions(
    weights: Mapping[str, Tensor],
    vit: Positioned,
    prefix: str = '',
    recorded: Grid | None = None,
    given: Grid | None = None,
) -> Fitted:
    """Expand the shared bias table, and resize tables and position embeddings to a model's grid.

    Args:
        weights: mmpretrain names behind ``prefix``; not changed.
        vit: The model to be filled.
        prefix: What its names start with.
        recorded, given: See :func:`grid_of_positions`.

    Returns:
        The weights, with positions that fit, and the model's own index of each table.

    Raises:
        ValueError: If nothing tells the grid of positions that the model needs.
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
    names = [
        name
        for name in [*tables, *([POSITIONS] if POSITIONS in own else [])]
        if prefix + name in fitted and _alike(fitted[prefix + name], own[name])
    ]
    if names:
        wanted = {prefix + name: fitted[prefix + name] for name in names}
        extra = vit.num_extra_tokens
        source = grid_of_positions(wanted, indices_of(weights, prefix), extra, recorded, given)
        target = (vit.window[0], vit.window[1])
        for name, value in wanted.items() if source != target else ():
            if name.endswith(TABLE):
                fitted[name] = resize_table(value, source, target)
            else:
                fitted[name] = resize_pos_embed(value, source, target, vit.interpolate_mode, extra)
            resized.append(f'{name.removeprefix(prefix)}: {times(source)} -> {times(target)}')
    # An index follows from the grid; the file's own may be that of another one.
    fitted.update({prefix + name: index for name, index in own.items() if name.endswith(INDEX)})
    return Fitted(fitted, expanded, resized)


def _alike(value: Tensor, own: Tensor) -> bool:
    return value.ndim == own.ndim and value.shape[-1] == own.shape[-1]


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
    """Find the patch grid of bias tables and position embeddings.

    Args:
        positions: Tables ``(rows, heads)`` and position embeddings ``(1, tokens, C)`` of one transformer.
        indices: The index buffers beside them, if any.
        num_extra_tokens: Position embeddings that belong to no patch. Default 0.
        recorded: The grid that the state dict records, if it does (see :func:`recorded_grid`).
        given: The grid that the user gives, if so.

    Returns:
        The given grid; else the first that fits of the recorded one, that of an index, and a square.

    Raises:
        ValueError: If none fits.
    """
    tables = {name: table for name, table in positions.items() if name.endswith(TABLE)}
    embedded = {name: value for name, value in positions.items() if name not in tables}
    counts = [(1 + math.isqrt(max(table.shape[0] - 3, 0))) // 2 for table in tables.values()]
    counts += [math.isqrt(max(value.shape[1] - num_extra_tokens, 0)) for value in embedded.values()]
    candidates: list[Grid] = [given] if given is not None else []
    if given is None:
        candidates = [recorded] if recorded is not None else []
        candidates += _grids_of_index(indices) + [(side, side) for side in counts if side > 0]
    for rows, cols in candidates:
        if all(table.shape[0] == num_table_rows((rows, cols)) for table in tables.values()) and all(
            value.shape[1] == rows * cols + num_extra_tokens for value in embedded.values()
        ):
            return rows, cols
    facts = [f'{name} has {table.shape[0]} rows' for name, table in list(tables.items())[:1]]
    facts += [
        f'{name} has {value.shape[1]} entries, {num_extra_tokens} of them for no patch'
        for name, value in embedded.items()
    ]
    tried = 'no square grid, and nothing tells another' if given is None else f'not the given {times(given)}'
    raise ValueError(
        f'the patch grid of its positions cannot be told: {" and ".join(facts)}, which fits {tried}. Give '
        'the grid at which they were trained, such as model.backbone.init_cfg.grid=8,12; entries for further '
        "tokens, such as DeiT's for distillation, have no place in the model"
    )


def _grids_of_index(indices: list[Tensor]) -> list[Grid]:
    """Return the one grid that the first of these buffers is the index of, if it is one.

    Rows and columns of a single line of patches have the same index.
    """
    if not indices or indices[0].ndim != 2 or len(set(indices[0].shape)) != 1 or len(indices[0]) < 2:
        return []
    patches, first = len(indices[0]) - 1, indices[0][1, 1:].tolist()
    grids = [(patches // cols, cols) for cols in range(1, patches + 1) if patches % cols == 0]
    # From the first patch, one step right is one table row less, one step down 2 * columns - 1 less.
    grids = [
        (rows, cols)
        for rows, cols in grids
        if first == [row * (2 * cols - 1) + col for row in range(rows)[::-1] for col in range(cols)[::-1]]
    ]
    return grids if len(grids) == 1 else []
