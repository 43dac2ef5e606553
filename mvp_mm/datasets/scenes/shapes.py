"""What can stand in a scene, in whole numbers so that every platform draws the same pixels.

Coordinates are relative to the object: u to its right, v downwards, 1024 units to the circumradius.
"""

from collections.abc import Callable

import numpy as np
from PIL.ImageColor import getrgb

# A label map holds 0 for the background and i + 1 for SHAPES[i].
SHAPES = ('circle', 'square', 'triangle', 'star', 'cross', 'ring', 'crescent', 'arrow')
# Clutter that no caption names and no label map marks; some of it resembles named shapes.
UNNAMED_SHAPES = ('half disc', 'bar', 'corner', 'lens')
COLOURS = {
    'red': (205, 45, 45),
    'orange': (230, 135, 40),
    'yellow': (225, 210, 60),
    'green': (60, 160, 60),
    'cyan': (60, 190, 200),
    'blue': (55, 80, 200),
    'purple': (135, 60, 170),
    'pink': (235, 130, 175),
}
TEXTURES = ('plain', 'striped', 'checked', 'dotted')

CLASSES = ('background', *SHAPES)
# Colours to draw CLASSES with; they have nothing to do with the colours of the objects.
HEX = ('#282828', '#e63c3c', '#f09628', '#ebd73c', '#50b450', '#46bed2', '#4664dc', '#a050c8', '#f08cbe')
PALETTE = tuple(map(getrgb, HEX))

UNIT = 1024
# Inward normals of a pentagram's five lines, times 1024.
PENTAGRAM = ((0, 1024), (974, 316), (602, -828), (-602, -828), (-974, 316))


def _disc(u: np.ndarray, v: np.ndarray, radius: int = UNIT) -> np.ndarray:
    return u * u + v * v < radius * radius


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # A point lies in a pentagram if it is on the inner side of at least four of its five lines. The lines
    # are a little farther out than those of a true one (316), so that the arms are thicker.
    inner = sum(((a * u + b * v < 380 * UNIT).view(np.uint8) for a, b in PENTAGRAM))
    return (inner >= 4) & _disc(u, v)


OUTLINES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    'circle': _disc,
    'square': lambda u, v: (abs(u) < 760) & (abs(v) < 760),
    'triangle': lambda u, v: (v < UNIT // 2) & (1774 * abs(u) - UNIT * v < UNIT * UNIT),  # 1774 = 1024 √3
    'star': _star,
    'cross': lambda u, v: ((abs(u) < 310) & (abs(v) < 960)) | ((abs(v) < 310) & (abs(u) < 960)),
    'ring': lambda u, v: _disc(u, v) & (u * u + v * v > 560 * 560),
    'crescent': lambda u, v: _disc(u, v) & ~_disc(u - 480, v, 860),
    # head, shaft
    'arrow': lambda u, v: ((v < 0) & (4 * abs(u) < 3 * (v + UNIT))) | ((v >= 0) & (v < 930) & (abs(u) < 270)),
    'half disc': lambda u, v: _disc(u, v) & (v > 0),
    'bar': lambda u, v: (abs(u) < 230) & (abs(v) < 980),
    'corner': lambda u, v: (abs(u) < 700) & (abs(v) < 700) & ((u < -180) | (v > 180)),
    'lens': lambda u, v: _disc(u - 620, v, 1180) & _disc(u + 620, v, 1180),
}
DARK: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    'striped': lambda u, v: (v >> 8) & 1 == 1,
    'checked': lambda u, v: ((u >> 9) ^ (v >> 9)) & 1 == 1,
    'dotted': lambda u, v: _disc((u & 511) - 256, (v & 511) - 256, 170),
}
