"""Curves of training runs, from the JSON logs that MMEngine writes."""

import fnmatch
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .paper_figure import new_figure

LOG = 'scalars.json'
# Places in a log, not measurements.
PLACES = ('step', 'iter', 'epoch')
# What is drawn when nothing is named: of these, what the runs have.
USUAL = ('loss', 'cosine_*', '*/excess', 'mIoU', '*/top1', 'lr', 'images_per_second')
DASHES = ('-', '--', ':', '-.')  # each for ten runs, the number of matplotlib's colours
FEW = 30  # so few points, as of validations, are marked as such


@dataclass
class Run:
    """The numbers of one run.

    Args:
        title: What the legend calls it.
        curves: For each key its points: iterations, ascending, and values.
    """

    title: str
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def read_runs(paths: Sequence[str | Path], titles: Sequence[str] = ()) -> list[Run]:
    """Read runs; see :func:`read_run`.

    Args:
        paths: One a run.
        titles: As many. Default: the work dirs' names, or the paths where two have the same name.

    Raises:
        FileNotFoundError: If there is no log at one of the paths.
        ValueError: If a file is no such log, or there are not as many titles as paths.
    """
    if titles and len(titles) != len(paths):
        raise ValueError(f'{len(titles)} titles for {len(paths)} runs')
    runs = [read_run(path) for path in paths]
    names = [run.title for run in runs]
    for number, (run, path) in enumerate(zip(runs, paths, strict=True)):
        if titles:
            run.title = titles[number]
        elif names.count(run.title) > 1:
            run.title = str(path)
    return runs


def read_run(path: str | Path) -> Run:
    """Read a run.

    Args:
        path: Its work dir, or one of its logs: ``<time>/vis_data/scalars.json`` or ``<time>.json`` beside
            it. Of a work dir all logs are joined in order of their start; where a restart repeats
            iterations, or a new run was begun in the same folder, the later one counts.

    Returns:
        The run, with its work dir's name as the title.

    Raises:
        FileNotFoundError: If there is no such place, or no log in it.
        ValueError: If a file is no such log.
    """
    path = Path(path)
    logs = run_logs(path)
    run = Run(_work_dir(logs[-1]).name)
    parts = [read_log(log) for log in logs]
    # Validations alone (tools/test.py leaves such logs) belong to no place in a training.
    trainings = [part for part in parts if part.trained]
    for part in trainings or parts:
        if part.trained:
            for points in run.curves.values():
                points[:] = [point for point in points if point[0] < part.start]
        for key, points in part.curves.items():
            run.curves.setdefault(key, []).extend(points)
    run.curves = {key: points for key, points in run.curves.items() if points}
    return run


def validation_keys(path: str | Path) -> set[str]:
    """What the validations of a run have logged, and no training iteration.

    Args:
        path: As for :func:`read_run`.
    """
    rows = [row for log in run_logs(Path(path)) for row in _rows(log)]
    trained = {key for row in rows if 'iter' in row for key in row}
    return {key for row in rows if 'iter' not in row for key in row} - trained - {*PLACES}


def run_logs(path: Path) -> list[Path]:
    """The logs of a run, the earliest first.

    Raises:
        FileNotFoundError: If there are none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f'there is no run {path}: give a work dir, or a log such as {LOG}')
    for folder in (path, path / 'vis_data'):
        if (folder / LOG).is_file():
            return [folder / LOG]
    # Folders are named after the time of their start.
    logs = sorted(path.glob(f'*/vis_data/{LOG}'))
    if not logs:
        below = sorted({str(log.parents[2]) for log in path.glob(f'*/*/vis_data/{LOG}')})
        hint = f'; there are runs in {", ".join(below[:8])}' if below else ''
        raise FileNotFoundError(f'there is no log */vis_data/{LOG} in {path}{hint}')
    return logs


@dataclass
class Log:
    """One log.

    Args:
        curves: As of :class:`Run`.
        start: First iteration of the training.
        trained: Whether there is a training, or only validations.
    """

    curves: dict[str, list[tuple[int, float]]]
    start: int
    trained: bool


def read_log(path: Path) -> Log:
    """Read one log of MMEngine's, a JSON object a line.

    A validation has no iteration, and as its step, by the config, an epoch, an iteration or nothing of use:
    it counts for the training's last iteration before it. Half a line at the end, of a killed process, is
    left out.

    Raises:
        ValueError: If it is no such log.
    """
    rows = _rows(path)
    curves: dict[str, list[tuple[int, float]]] = {}
    trained = any('iter' in row for row in rows)
    start = next((row['iter'] for row in rows if 'iter' in row), 0)
    now = 0
    for row in rows:
        now = row['iter'] if 'iter' in row else max(now, row['step'])
        for key, value in row.items():
            # A validation's own times are not those of the training.
            is_time = 'iter' not in row and trained and key in ('time', 'data_time')
            if key in PLACES or is_time or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            curves.setdefault(key, []).append((now, float(value)))
    return Log(curves, start, trained)


def _rows(path: Path) -> list[dict]:
    lines = path.read_text(errors='replace').splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict) and 'step' in row:
            rows.append(row)
        elif number < len(lines) or not rows:
            raise ValueError(
                f"{path} is no log of MMEngine's: line {number} is not a JSON object with a step. Logs are "
                f'<work dir>/<time>/vis_data/{LOG}'
            )
    if not rows:
        raise ValueError(f'{path} is an empty log')
    return rows


def _work_dir(log: Path) -> Path:
    """Of ``<work dir>/<time>/vis_data/<log>``; a log that lies elsewhere stands for itself."""
    log = log.resolve()
    return log.parents[2] if log.parent.name == 'vis_data' else log.with_suffix('')


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
