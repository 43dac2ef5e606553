"""Figures for a paper: made without a display, written as PNG, PDF or SVG."""

from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

ENDINGS = ('.png', '.pdf', '.svg')
DPI = 200  # of pictures in print
# Text stays text: many publishers refuse matplotlib's default, Type 3 fonts.
PRINT = {'pdf.fonttype': 42, 'svg.fonttype': 'none'}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure whose parts are laid out by themselves; sizes in inches."""
    figure = Figure((width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def figure_path(path: str | Path) -> Path:
    """A path that a figure can be written to; asked for before there is anything to draw.

    Raises:
        ValueError: If its ending is none of ``ENDINGS``.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f'{path}: a figure ends in {", ".join(ENDINGS)}')
    return path


def save_figure(figure: Figure, path: str | Path, dpi: int = DPI) -> None:
    """Write a figure by its path's ending; folders are made.

    Args:
        figure: What to write.
        path: PNG, PDF or SVG.
        dpi: Pixels an inch of a PNG, and of the pictures inside of the others.

    Raises:
        ValueError: If the ending is another one.
    """
    path = figure_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(PRINT):
        figure.savefig(path, dpi=dpi)
