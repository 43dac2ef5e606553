"""Curves of figures over the number of labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Curves = Mapping[str, Sequence[tuple[int, Sequence[float]]]]  # of each row, figures of the seeds by labels


def draw_curves(panels: Mapping[str, Curves], across: str, path: Path) -> None:
    """Draw a line a row, bars of one standard deviation, in a panel for each figure.

    Args:
        panels: Curves by the name of what they show.
        across: What is counted on the horizontal axis.
        path: PNG or PDF to write.
    """
    figure = Figure((5 * len(panels), 4), layout='constrained', dpi=150)
    FigureCanvasAgg(figure)
    rows = list(dict.fromkeys(row for curves in panels.values() for row in curves))
    lines = {}
    for axes, (shown, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for row, points in curves.items():
            points = sorted(points)
            lines[row] = axes.errorbar(
                [count for count, _ in points],
                [mean(values) for _, values in points],
                yerr=[stdev(values) if len(values) > 1 else 0 for _, values in points],
                marker='o',
                capsize=3,
                color=f'C{rows.index(row)}',  # the same in all panels
            )
        axes.set(xscale='log', xlabel=across, ylabel=shown)
        counts = sorted({count for points in curves.values() for count, _ in points})
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    handles = [lines[row] for row in rows]
    figure.legend(handles, rows, loc='outside lower center', ncols=max(1, min(len(rows), 3 * len(panels))))
    figure.savefig(path)
