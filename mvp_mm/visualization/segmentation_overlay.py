"""A segmentation drawn over its image, with a legend; colours for its classes."""

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..datasets.scenes import PALETTE as SCENES
from ..datasets.sources.camvid import PALETTE as CAMVID
from ..text.class_names import MMSEG
from .paper_figure import new_figure, save_figure

DPI = 100
LEGEND_INCHES = 2.4
MIN_SHARE = 1e-3  # smaller classes stay out of the legend
HUE_STEP = 0.618034  # of the golden ratio: neighbours in the list never look alike


def draw_overlay(
    image: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    opacity: float = 0.55,
) -> Figure:
    """Colour every pixel by its class and list the classes seen, largest first.

    Args:
        image: RGB uint8 ``(H, W, 3)``; it keeps its pixels in the figure.
        labels: Class of every pixel, int ``(H, W)``; other values stay uncoloured.
        classes: Class names.
        palette: RGB colours on the 0–255 scale, one per class.
        opacity: Of the colours, 0 to 1.

    Raises:
        ValueError: If the label map is not of the image's size.
    """
    if labels.shape != image.shape[:2]:
        raise ValueError(f'a label map of {labels.shape} does not cover an image of {image.shape[:2]}')
    colours = np.asarray(palette, dtype=np.float32)
    known = (labels >= 0) & (labels < len(classes))
    blended = image.astype(np.float32)
    blended[known] = (1 - opacity) * blended[known] + opacity * colours[labels[known]]
    height, width = (side / DPI for side in labels.shape)
    figure = new_figure(width + LEGEND_INCHES, max(height, 1.0))
    figure.set_layout_engine('none')
    figure.set_dpi(DPI)
    share = width / (width + LEGEND_INCHES)
    axes = figure.add_axes((0, 0, share, 1))
    axes.imshow(blended.round().astype(np.uint8), interpolation='nearest')
    axes.set_axis_off()
    shares = np.bincount(labels[known], minlength=len(classes)) / labels.size
    patches = [
        Patch(color=colours[index] / 255, label=f'{classes[index]} {100 * shares[index]:.1f}%')
        for index in np.argsort(-shares)
        if shares[index] > MIN_SHARE
    ]
    figure.legend(handles=patches, loc='center left', bbox_to_anchor=(share, 0.5), frameon=False, fontsize=9)
    return figure


def save_overlay(figure: Figure, path: Path) -> None:
    """Write a figure of :func:`draw_overlay` at the image's pixels."""
    save_figure(figure, path, DPI)


def class_colours(count: int, dataset: str | None = None) -> list[list[int]]:
    """Return ``count`` RGB colours, 0–255: those usual for a dataset of :func:`.class_names`, or distinct."""
    colours: Any = dict(camvid=list(CAMVID.values()), scenes=list(SCENES)).get(dataset or '', [])
    if dataset in MMSEG:
        from mmseg.utils import get_palette  # only segmentation needs mmseg

        colours = get_palette(MMSEG[dataset])
        colours = {'voc20': colours[1:], 'context60': [[0, 0, 0], *colours]}.get(dataset, colours)
    distinct = [_distinct(number) for number in range(len(colours), count)]
    return [*map(list, colours), *distinct][:count]


def _distinct(number: int) -> list[int]:
    hue, shade = number * HUE_STEP % 1, number % 3
    colour = colorsys.hsv_to_rgb(hue, (0.85, 0.6, 1.0)[shade], (0.95, 1.0, 0.6)[shade])
    return [round(255 * part) for part in colour]
