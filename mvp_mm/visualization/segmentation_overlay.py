"""A segmentation drawn over its image, with a legend."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

DPI = 100
LEGEND_INCHES = 2.4
MIN_SHARE = 1e-3  # smaller classes stay out of the legend


def draw_overlay(
    image: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    opacity: float = 0.55,
) -> Figure:
    """Colour every pixel by its class and list the classes seen, largest first.

    Args:
        image: RGB uint8 ``(H, W, 3)``.
        labels: Class of every pixel, int ``(H, W)``; values outside of the classes stay uncoloured.
        classes: Class names.
        palette: RGB colours on the 0–255 scale, one a class.
        opacity: Of the colours, 0 to 1. Default 0.55.

    Returns:
        A matplotlib figure; the image keeps its pixels.

    Raises:
        ValueError: If the label map is not of the image's size.
    """
    if labels.shape != image.shape[:2]:
        raise ValueError(f'a label map of {labels.shape} does not cover an image of {image.shape[:2]}')
    colours = np.asarray(palette, dtype=np.float32)
    known = (labels >= 0) & (labels < len(classes))
    blended = image.astype(np.float32)
    blended[known] = (1 - opacity) * blended[known] + opacity * colours[labels[known]]
    height, width = labels.shape
    figure = Figure((width / DPI + LEGEND_INCHES, max(height / DPI, 1.0)), dpi=DPI)
    FigureCanvasAgg(figure)
    share = width / DPI / (width / DPI + LEGEND_INCHES)
    axes = figure.add_axes((0, 0, share, 1))
    axes.imshow(blended.round().astype(np.uint8), interpolation='nearest')
    axes.set_axis_off()
    counts = np.bincount(labels[known], minlength=len(classes))
    seen = [index for index in np.argsort(-counts) if counts[index] > MIN_SHARE * labels.size]
    patches = [
        Patch(color=colours[index] / 255, label=f'{classes[index]} {100 * counts[index] / labels.size:.1f}%')
        for index in seen
    ]
    figure.legend(handles=patches, loc='center left', bbox_to_anchor=(share, 0.5), frameon=False, fontsize=9)
    return figure


def save_overlay(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or PDF, by the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
