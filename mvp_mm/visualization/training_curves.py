"""Figures of training curves, of one run or many."""

import fnmatch
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..engine.run_log import Run
from .paper_figure import new_figure

# What is drawn when nothing is named: of these, what the runs have.
USUAL = ('loss', 'cosine_*', '*/excess', 'mIoU', '*/top1', 'lr', 'images_per_second')
DASHES = ('-', '--', ':', '-.')  # each for ten runs, the number of matplotlib's colours
FEW = 30  # so few points, as of validations, are marked as such


def chosen_keys(runs: Sequence[Run], patterns: Sequence[str]) -> list[str]:
    """Keys of the runs that shell-style patterns match, in the patterns' order.

    Args:
        runs: Whose keys.
        patterns: Such as ``cosine_*``; none for the usual ones.

    Raises:
        ValueError: If one matches nothing.
    """
    there = sorted({key for run in runs for key in run.curves})
    keys: dict[str, None] = {}
    for pattern in patterns or USUAL:
        found = [key for key in there if fnmatch.fnmatchcase(key, pattern)]
        if patterns and not found:
            raise ValueError(f'no run has a key {pattern!r}; there are {", ".join(there)}')
        keys.update(dict.fromkeys(found))
    if not keys:
        raise ValueError(f'name keys with --keys; there are {", ".join(there)}')
    return list(keys)


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average that begins without a bias towards the first value, or nought.

    Args:
        values: What is averaged; values that are not finite are passed over, and stay as they are.
        weight: Of the past, 0 (nothing changes) to below 1.
    """
    past, norm, result = 0.0, 0.0, []
    for value in values:
        if not math.isfinite(value):
            result.append(value)
            continue
        past = weight * past + (1 - weight) * value
        norm = weight * norm + 1 - weight
        result.append(past / norm)
    return result


def draw_curves(
    runs: Sequence[Run],
    patterns: Sequence[str] = (),
    columns: int = 3,
    smoothing: float = 0.0,
    logarithmic: Sequence[str] = (),
    panel: tuple[float, float] = (2.6, 1.9),
) -> Figure:
    """A panel a key, a colour a run, over the training's iterations.

    Args:
        runs: One or many.
        patterns: Which keys (see :func:`chosen_keys`). Default: the usual ones that there are.
        columns: Panels a row, at most.
        smoothing: Weight of the past in an exponential moving average, drawn over the pale raw curve;
            learning rates and curves of ``FEW`` points or less are left as they are. Default 0: none.
        logarithmic: Patterns of the keys with a logarithmic axis.
        panel: Width and height of a panel in inches.

    Returns:
        The figure.

    Raises:
        ValueError: If a pattern matches nothing, or a number is out of range.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f'smoothing={smoothing} is not from 0 to below 1')
    if columns < 1:
        raise ValueError(f'columns={columns}: a row has one panel or more')
    keys = chosen_keys(runs, patterns)
    if logarithmic:
        chosen_keys(runs, logarithmic)  # raises where one matches nothing
    columns = min(columns, len(keys))
    rows = -(-len(keys) // columns)
    legend_rows = -(-len(runs) // columns) if len(runs) > 1 else 0
    styles = [
        dict(color=f'C{number % 10}', linestyle=DASHES[number // 10 % len(DASHES)], linewidth=1.1)
        for number in range(len(runs))
    ]
    figure = new_figure(panel[0] * columns, panel[1] * rows + 0.17 * legend_rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(keys) :]:
        axes.set_visible(False)
    for axes, key in zip(grid.flat, keys, strict=False):
        for run, style in zip(runs, styles, strict=True):
            if key in run.curves:
                _draw_curve(axes, run.curves[key], style, 0.0 if key.endswith('lr') else smoothing)
        axes.set_title(key, fontsize=8, pad=3)
        axes.tick_params(labelsize=6)
        axes.grid(linewidth=0.3, alpha=0.6)
        axes.spines[['top', 'right']].set_visible(False)
        axes.yaxis.get_offset_text().set_fontsize(6)
        axes.xaxis.get_offset_text().set_fontsize(6)
        if any(fnmatch.fnmatchcase(key, pattern) for pattern in logarithmic):
            axes.set_yscale('log')
        if axes is not grid[0, 0]:
            axes.sharex(grid[0, 0])
    for axes in grid.flat[max(0, len(keys) - columns) : len(keys)]:  # the lowest of each column
        axes.set_xlabel('iteration', fontsize=7)
    if legend_rows:
        handles = [Line2D([], [], label=run.title, **style) for run, style in zip(runs, styles, strict=True)]
        figure.legend(handles=handles, loc='outside lower center', ncols=columns, fontsize=7, frameon=False)
    return figure


def _draw_curve(axes: Axes, points: Sequence[tuple[int, float]], style: dict, smoothing: float) -> None:
    iterations, values = zip(*points, strict=True)
    if len(points) <= FEW:
        style = style | dict(marker='o', markersize=2.5)
    elif smoothing:
        axes.plot(iterations, values, **style | dict(alpha=0.25, linewidth=0.7))
        values = smoothed(values, smoothing)
    axes.plot(iterations, values, **style)
