"""A sheet of embedded scenes: pictures, label maps and captions."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.patches import Patch

from ..datasets.scenes import CLASSES, PALETTE, SceneCollection
from .paper_figure import new_figure, save_figure


def draw_scene_sheet(scenes: SceneCollection, path: Path, columns: int = 6) -> None:
    """Draw the scenes of a collection with label maps and captions to a PNG, PDF or SVG file."""
    palette = np.array(PALETTE, dtype=np.uint8)
    rows = -(-len(scenes) // columns)
    figure = new_figure(2.4 * columns, 2.0 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis('off')
    for index, axes in zip(range(len(scenes)), grid.flat, strict=False):
        image, labels = scenes[index]
        axes.imshow(np.concatenate([image, palette[labels]], axis=1), interpolation='nearest')
        axes.set_title(textwrap.fill(scenes.describe(index).caption, width=30), fontsize=6)
    handles = [Patch(color=colour / 255, label=name) for name, colour in zip(CLASSES, palette, strict=True)]
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles), fontsize=7)
    save_figure(figure, path, dpi=130)
