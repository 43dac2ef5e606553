"""The outlines of the shapes, in whole numbers so that every platform draws the same pixels.

Coordinates are relative to the object: u to its right, v downwards, 1024 units to the circumradius.
"""

from collections.abc import Callable

import numpy as np

UNIT = 1024

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _disc(u: np.ndarray, v: np.ndarray, radius: int = UNIT) -> np.ndarray:
    return u * u + v * v < radius * radius


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (abs(u) < 760) & (abs(v) < 760)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (v < UNIT // 2) & (1774 * abs(u) - UNIT * v < UNIT * UNIT)  # 1774 = 1024 * sqrt(3)


# Inward normals of a pentagram's five lines, times 1024.
_PENTAGRAM = ((0, 1024), (974, 316), (602, -828), (-602, -828), (-974, 316))


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # A point lies in a pentagram if it is on the inner side of at least four of its five lines. The
    # lines are a little farther out than those of a true one (316), so that the arms are thicker.
    inner = sum(((a * u + b * v < 380 * UNIT).view(np.uint8) for a, b in _PENTAGRAM))
    return (inner >= 4) & _disc(u, v)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = abs(u), abs(v)
    return ((u < 310) & (v < 960)) | ((v < 310) & (u < 960))


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    squared = u * u + v * v
    return (squared < UNIT * UNIT) & (squared > 560 * 560)


def _crescent(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _disc(u, v) & ~_disc(u - 480, v, 860)


def _arrow(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u = abs(u)
    head = (v < 0) & (4 * u < 3 * (v + UNIT))
    shaft = (v >= 0) & (v < 930) & (u < 270)
    return head | shaft


def _half_disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _disc(u, v) & (v > 0)


def _bar(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (abs(u) < 230) & (abs(v) < 980)


def _corner(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (abs(u) < 700) & (abs(v) < 700) & ((u < -180) | (v > 180))


def _lens(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _disc(u - 620, v, 1180) & _disc(u + 620, v, 1180)


OUTLINES: dict[str, Outline] = {
    'circle': _disc,
    'square': _square,
    'triangle': _triangle,
    'star': _star,
    'cross': _cross,
    'ring': _ring,
    'crescent': _crescent,
    'arrow': _arrow,
    'half disc': _half_disc,
    'bar': _bar,
    'corner': _corner,
    'lens': _lens,
}
