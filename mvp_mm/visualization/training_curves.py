"""The figure of training curves: several runs side by side. To look at one run, use TensorBoard."""

import fnmatch
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..engine.run_log import Run
from .paper_figure import new_figure

# Drawn by default, as far as the runs have them.
USUAL = ('loss', 'cosine_*', '*/excess', 'mIoU', '*/top1', 'lr', 'images_per_second')
DASHES = ('-', '--', ':', '-.')  # each for ten runs, the number of matplotlib's colours
FEW = 30  # so few points, as of validations, are marked


def chosen_keys(runs: Sequence[Run], patterns: Sequence[str]) -> list[str]:
    """Return the runs' keys that shell-style patterns match, in the patterns' order; none: the usual ones."""
    there = sorted({key for run in runs for key in run.curves})
    found = {pattern: fnmatch.filter(there, pattern) for pattern in patterns or USUAL}
    if missing := [pattern for pattern in patterns if not found[pattern]]:
        raise ValueError(f'no run has a key {missing[0]!r}; there are {", ".join(there)}')
    if not any(found.values()):
        raise ValueError(f'name keys with --keys; there are {", ".join(there)}')
    return list(dict.fromkeys(key for keys in found.values() for key in keys))


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Average exponentially without a bias towards the start; ``weight`` is the past's, NaN stays NaN."""
    past, norm, result = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            past = weight * past + (1 - weight) * value
            norm = weight * norm + 1 - weight
        result.append(past / norm if math.isfinite(value) else value)
    return result


def draw_curves(
    runs: Sequence[Run],
    patterns: Sequence[str] = (),
    columns: int = 3,
    smoothing: float = 0.0,
    logarithmic: Sequence[str] = (),
) -> Figure:
    """Draw a panel per key, a colour per run, over the training's iterations.

    Args:
        runs: One or many.
        patterns: Shell-style patterns of the keys. Default: the usual ones.
        columns: Panels per row, at most.
        smoothing: Weight of the past in an exponential moving average over the pale raw curve; learning rates
            and curves of ``FEW`` points or less are left as they are. Default 0: none.
        logarithmic: Patterns of the keys with a logarithmic axis.

    Raises:
        ValueError: If a pattern matches nothing, or a number is out of range.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f'smoothing={smoothing} is not from 0 to below 1')
    if columns < 1:
        raise ValueError(f'columns={columns}: a row has one panel or more')
    keys = chosen_keys(runs, patterns)
    on_log_axis = chosen_keys(runs, logarithmic) if logarithmic else []
    columns = min(columns, len(keys))
    rows = -(-len(keys) // columns)
    legend_rows = -(-len(runs) // columns) if len(runs) > 1 else 0
    figure = new_figure(2.6 * columns, 1.9 * rows + 0.17 * legend_rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes in grid.flat[len(keys) :]:
        axes.set_visible(False)
    styles: list[dict[str, Any]] = [
        dict(color=f'C{index % 10}', linestyle=DASHES[index // 10 % len(DASHES)], linewidth=1.1)
        for index in range(len(runs))
    ]
    for axes, key in zip(grid.flat, keys, strict=False):
        for run, style in zip(runs, styles, strict=True):
            if key in run.curves:
                _draw_curve(axes, run.curves[key], style, 0.0 if key.endswith('lr') else smoothing)
        axes.set_title(key, fontsize=8, pad=3)
        axes.tick_params(labelsize=6, labelbottom=True)
        axes.grid(linewidth=0.3, alpha=0.6)
        axes.spines[['top', 'right']].set_visible(False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_offset_text().set_fontsize(6)
        if key in on_log_axis:
            axes.set_yscale('log')
    for axes in grid.flat[max(0, len(keys) - columns) : len(keys)]:  # the lowest of each column
        axes.set_xlabel('iteration', fontsize=7)
    if legend_rows:
        handles = [Line2D([], [], label=run.title, **style) for run, style in zip(runs, styles, strict=True)]
        figure.legend(handles=handles, loc='outside lower center', ncols=columns, fontsize=7, frameon=False)
    return figure


def _draw_curve(axes: Axes, points: Sequence[tuple[int, float]], style: dict, smoothing: float) -> None:
    iterations, values = map(list, zip(*points, strict=True))
    if len(points) <= FEW:
        style = style | dict(marker='o', markersize=2.5)
    elif smoothing:
        axes.plot(iterations, values, **style | dict(alpha=0.25, linewidth=0.7))
        values = smoothed(values, smoothing)
    axes.plot(iterations, values, **style)
