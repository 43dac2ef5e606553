"""Images to look at models with: files and rendered scenes, cut and resized to whole patches."""

import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..datasets.scenes import SceneCollection
from ..datasets.transforms.decode_image import UnreadableImageError, decode_image
from ..weights.bias_tables import Grid

SCENES = 'scenes:'
FITS = ('crop', 'whole')
MAX_PATCHES = 4096  # one layer's attention of 12 heads then takes 0.8 GB


@dataclass(frozen=True)
class ShownImage:
    """The part of an image that is shown."""

    name: str
    pixels: np.ndarray  # RGB uint8 (H, W, 3)
    offset: tuple[int, int] = (0, 0)  # of its left and upper border, in pixels of the whole image


@dataclass(frozen=True)
class Point:
    """A place in an image: pixels of the whole image, or fractions of the shown part."""

    x: float
    y: float
    in_pixels: bool

    @classmethod
    def parse(cls, text: str) -> 'Point':
        """Read ``'0.25,0.5'`` as fractions, ``'120,80'`` as pixels; raise ValueError on anything else."""
        in_pixels = '.' not in text
        limit = math.inf if in_pixels else 1
        with suppress(ValueError):
            x, y = map(float, text.split(','))
            if 0 <= x <= limit and 0 <= y <= limit:
                return cls(x, y, in_pixels)
        raise ValueError(
            f'{text!r} is no place in an image: give X,Y in pixels of the image, such as 120,80, or as '
            'fractions of what is shown, with a point, such as 0.25,0.5'
        )

    def patch(self, image: ShownImage, grid: Grid) -> tuple[int, int]:
        """Return row and column of the patch here; raise ValueError if it is not shown."""
        (height, width), (left, top) = image.pixels.shape[:2], image.offset
        x, y = self.x, self.y
        if self.in_pixels:
            if not (left <= x < left + width and top <= y < top + height):
                raise ValueError(
                    f'{self} is not in the shown part of {image.name}, x from {left} to {left + width - 1}, '
                    f'y from {top} to {top + height - 1}'
                )
            x, y = (x - left + 0.5) / width, (y - top + 0.5) / height
        return min(int(y * grid[0]), grid[0] - 1), min(int(x * grid[1]), grid[1] - 1)

    def __str__(self) -> str:
        return f'{self.x:g},{self.y:g}'


def read_image(source: str, scene_side: int = 64, fit: str = 'crop') -> ShownImage:
    """Read an image file, or render a scene of the package.

    Args:
        source: Path, or ``scenes:SPLIT:INDEX`` such as ``scenes:val:7``.
        scene_side: Side in pixels of a scene. Default 64, that of the training.
        fit: ``'crop'`` for the square in the middle, ``'whole'`` for all of it.

    Raises:
        ValueError: If there is no such scene, or the file cannot be read.
    """
    if fit not in FITS:
        raise ValueError(f'fit={fit!r} is none of {FITS}')
    if source.startswith(SCENES):
        split, _, index = source.removeprefix(SCENES).partition(':')
        if not index.isdecimal():
            raise ValueError(f'{source!r} names no scene: expected scenes:SPLIT:INDEX, such as scenes:val:7')
        return ShownImage(source, SceneCollection(split, int(index) + 1, scene_side)[int(index)][0])
    try:
        pixels = decode_image(source)
    except UnreadableImageError as error:
        raise ValueError(f'{source} cannot be read as an image ({error.reason})') from error
    if fit == 'whole':
        return ShownImage(source, pixels)
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return ShownImage(source, pixels[top : top + side, left : left + side], (left, top))


def patch_grid(height: int, width: int, short_side: int, patch_size: int) -> Grid:
    """Choose the patch grid nearest to an image's shape when its shorter side becomes ``short_side``."""
    if short_side < patch_size:
        raise ValueError(f'a side of {short_side} pixels holds no patch of {patch_size}: use a larger size')
    scale = short_side / min(height, width) / patch_size
    rows, columns = (max(1, round(side * scale)) for side in (height, width))
    if rows * columns > MAX_PATCHES:
        raise ValueError(
            f'an image of {height}x{width} at {short_side} pixels has {rows}x{columns} patches, more than '
            f'{MAX_PATCHES}: use a smaller size, or crop it'
        )
    return rows, columns


def resized(pixels: np.ndarray, grid: Grid, patch_size: int) -> Tensor:
    """Resize uint8 RGB ``(H, W, 3)`` to ``(1, 3, h * p, w * p)`` on the 0–255 scale."""
    size = (grid[1] * patch_size, grid[0] * patch_size)
    image = Image.fromarray(pixels)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
