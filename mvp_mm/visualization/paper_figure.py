"""Figures for a paper: made without a display, written as PNG, PDF or SVG."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

ENDINGS = ('.png', '.pdf', '.svg')
DPI = 200  # of pictures in print


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure with automatic layout; sizes in inches."""
    return Figure((width, height), layout='constrained')


def figure_path(path: str | Path) -> Path:
    """Check the ending of a figure's path, before there is anything to draw."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f'{path}: a figure ends in {", ".join(ENDINGS)}')
    return path


def save_figure(figure: Figure, path: str | Path, dpi: int = DPI) -> None:
    """Write a figure as PNG, PDF or SVG by its path's ending; ``dpi`` is of the pictures inside, too."""
    path = figure_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keep text as text: many publishers refuse matplotlib's default, Type 3 fonts.
    with matplotlib.rc_context({'pdf.fonttype': 42, 'svg.fonttype': 'none'}):
        figure.savefig(path, dpi=dpi)
