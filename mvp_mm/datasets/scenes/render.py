"""From a scene's description to pixels and to a map of what is where.

All arithmetic is in whole numbers: a scene has the same bytes on every platform.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .compose import SIDE, TURN, Scene, SceneObject
from .shapes import DARK, OUTLINES, UNIT

SUBPIXELS = 2  # outlines are sampled at 2 x 2 points a pixel
HALF = 2  # of these points: from here on an object has the pixel
SHIFT = 14
COSINES = tuple(round(math.cos(2 * math.pi * step / TURN) * (1 << SHIFT)) for step in range(TURN))


class Footprint(NamedTuple):
    """Where an object lies on the pixel grid."""

    box: tuple[slice, slice]  # pixel rows and columns of its surroundings
    covered: np.ndarray  # how many of a pixel's four points it covers, uint8 (rows, columns)
    u: np.ndarray  # its own coordinates (see shapes.py) at the first of the four points, int32, same shape
    v: np.ndarray


def render_scene(scene: Scene, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene, ``size`` pixels a side.

    Returns:
        The image, uint8 ``(size, size, 3)`` RGB, and for every pixel the number of the object seen there, the
        topmost that covers half or more of it, uint8 ``(size, size)``: i + 1 for ``objects[i]``, 0 for none.
    """
    if size < 8:
        raise ValueError(f'size={size}: a scene needs 8 pixels a side or more')
    image = _background(scene, size)
    owners = np.zeros((size, size), dtype=np.uint8)
    for number, item in enumerate(scene.objects, start=1):
        place = footprint(item, size)
        _paint(image[place.box], item, place)
        owners[place.box][place.covered >= HALF] = number
    return _photograph(image, scene, size), owners


def label_map(scene: Scene, owners: np.ndarray) -> np.ndarray:
    """Return the class of every pixel, uint8, from the second result of :func:`render_scene`."""
    return np.array([0, *(item.label for item in scene.objects)], dtype=np.uint8)[owners]


def footprint(item: SceneObject, size: int) -> Footprint:
    """Lay an object on a grid of ``size`` pixels a side; its box is empty if it lies outside."""
    left, right = _span(item.x, item.radius, size)
    top, bottom = _span(item.y, item.radius, size)
    cosine = COSINES[item.angle] * UNIT // item.radius
    sine = COSINES[(item.angle - TURN // 4) % TURN] * UNIT // item.radius
    line = _centres(SUBPIXELS * size)
    dx = line[SUBPIXELS * left : SUBPIXELS * right] - item.x
    dy = line[SUBPIXELS * top : SUBPIXELS * bottom] - item.y
    u = ((dx * cosine)[None, :] + (dy * sine)[:, None]) >> SHIFT
    v = ((dy * cosine)[:, None] - (dx * sine)[None, :]) >> SHIFT
    inside = OUTLINES[item.shape](u, v).view(np.uint8)
    covered = inside[::2, ::2] + inside[1::2, ::2] + inside[::2, 1::2] + inside[1::2, 1::2]
    return Footprint((slice(top, bottom), slice(left, right)), covered, u[::2, ::2], v[::2, ::2])


def _span(centre: int, radius: int, size: int) -> tuple[int, int]:
    first = max(0, (centre - radius) * size // SIDE)
    return first, max(first, min(size, (centre + radius) * size // SIDE + 1))


@lru_cache(maxsize=16)
def _centres(count: int) -> np.ndarray:
    """Centres of ``count`` equal steps along the side, int32."""
    return ((2 * np.arange(count, dtype=np.int64) + 1) * SIDE // (2 * count)).astype(np.int32)


@lru_cache(maxsize=16)
def _bilinear(size: int, cells: int) -> np.ndarray:
    """Weights ``(size, cells)``, int32, rows summing to 256."""
    weights = np.zeros((size, cells), dtype=np.int32)
    for row, centre in enumerate(_centres(size).tolist()):
        position = centre * (cells - 1) * 256 // SIDE
        cell, part = position >> 8, position & 255
        weights[row, cell] += 256 - part
        weights[row, min(cell + 1, cells - 1)] += part
    return weights


def _background(scene: Scene, size: int) -> np.ndarray:
    cells = len(scene.background)
    weights = _bilinear(size, cells)
    rows = weights @ scene.background.astype(np.int32).reshape(cells, -1)
    image = (weights @ rows.reshape(size, cells, 3)) >> 16
    across, down, shift, amplitude = scene.pattern
    line = _centres(size)
    stripes = ((across * line[None, :] + down * line[:, None]) >> shift) & 1
    image += ((2 * stripes - 1) * amplitude)[..., None]
    return image


def _paint(region: np.ndarray, item: SceneObject, place: Footprint) -> None:
    painted = np.array(item.rgb, dtype=np.int32)
    if item.texture != 'plain':
        dark = DARK[item.texture](place.u, place.v)
        painted = np.where(dark[..., None], painted * 7 // 16, painted)
    region += ((painted - region) * place.covered[..., None].astype(np.int32)) >> 2


def _photograph(image: np.ndarray, scene: Scene, size: int) -> np.ndarray:
    """Apply light, colour cast and noise."""
    offset = _centres(size) - SIDE // 2
    across, down = scene.light
    light = 256 + ((across * offset[None, :] + down * offset[:, None]) >> 11)
    # one product a pixel and channel, in 1/65536
    image = (image * (light[..., None] * np.array(scene.gain, dtype=np.int32))) >> 16
    if scene.noise:
        noise = np.random.RandomState(scene.noise_seed).bytes(2 * image.size)
        grains = np.frombuffer(noise, np.uint8).astype(np.int32).reshape(2, *image.shape)
        image += ((grains[0] - grains[1]) * scene.noise) >> 8
    return image.clip(0, 255).astype(np.uint8)
