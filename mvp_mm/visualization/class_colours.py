"""Colours for the classes of a dataset, or for any list of names."""

import colorsys
from typing import Any

from ..datasets.scenes import PALETTE as SCENES
from ..datasets.sources.camvid import PALETTE as CAMVID
from ..text.class_names import MMSEG

HUE_STEP = 0.618034  # of the golden ratio: neighbours in the list never look alike


def class_colours(count: int, dataset: str | None = None) -> list[list[int]]:
    """Return ``count`` RGB colours on the 0–255 scale: those usual for a dataset, else distinct ones.

    Args:
        count: Number of classes.
        dataset: A name of :func:`~mvp_mm.text.class_names.class_names`. Default None: a list of one's own.
    """
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
