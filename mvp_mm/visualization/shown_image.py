"""Images to look at models with: files and rendered scenes, cut and resized to whole patches."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..datasets.scenes import SceneCollection
from ..datasets.transforms.load_rgb_image import LoadRGBImage
from ..weights.bias_tables import Grid

SCENES = 'scenes:'
FITS = ('crop', 'whole')
MAX_PATCHES = 4096  # one layer's attention of 12 heads then takes 0.8 GB


@dataclass(frozen=True)
class ShownImage:
    """The part of an image that is shown.

    Args:
        name: Where it comes from.
        pixels: RGB uint8 ``(H, W, 3)``.
        offset: Left and upper border of the part, in pixels of the whole image.
    """

    name: str
    pixels: np.ndarray
    offset: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Point:
    """A place in an image.

    Args:
        x: To the right: a fraction of the shown part, or pixels of the whole image.
        y: Downwards.
        in_pixels: Which of the two.
    """

    x: float
    y: float
    in_pixels: bool

    @classmethod
    def parse(cls, text: str) -> 'Point':
        """``'0.25,0.5'`` are fractions, ``'120,80'`` pixels.

        Raises:
            ValueError: If it is neither.
        """
        x, comma, y = text.partition(',')
        in_pixels = '.' not in text
        try:
            point = cls(float(x), float(y), in_pixels)
        except ValueError:
            comma = ''
        limit = math.inf if in_pixels else 1
        if not comma or not (0 <= point.x <= limit and 0 <= point.y <= limit):
            raise ValueError(
                f'{text!r} is no place in an image: give X,Y in pixels of the image, such as 120,80, or as '
                'fractions of what is shown, with a point, such as 0.25,0.5'
            )
        return point

    def patch(self, image: ShownImage, grid: Grid) -> tuple[int, int]:
        """Row and column of the patch at this place.

        Raises:
            ValueError: If the place is not in the shown part.
        """
        height, width = image.pixels.shape[:2]
        x, y = self.x, self.y
        if self.in_pixels:
            left, top = image.offset
            if not (left <= x < left + width and top <= y < top + height):
                raise ValueError(
                    f'{self} is not in the shown part of {image.name}, x from {left} to {left + width - 1}, '
                    f'y from {top} to {top + height - 1}'
                )
            x, y = (x - left + 0.5) / width, (y - top + 0.5) / height
        row, column = int(y * grid[0]), int(x * grid[1])
        return min(row, grid[0] - 1), min(column, grid[1] - 1)

    def __str__(self) -> str:
        return f'{self.x:g},{self.y:g}'


def read_image(source: str, scene_side: int = 64, fit: str = 'crop') -> ShownImage:
    """An image file, or a scene of the package.

    Args:
        source: Path, or ``scenes:SPLIT:INDEX`` such as ``scenes:val:7``.
        scene_side: Side in pixels that a scene is rendered at. Default 64, that of the training.
        fit: ``'crop'`` (default) for the square in the middle, ``'whole'`` for all of it.

    Raises:
        ValueError: If there is no such scene, or the file cannot be read.
    """
    if fit not in FITS:
        raise ValueError(f'fit={fit!r} is none of {FITS}')
    if source.startswith(SCENES):
        return ShownImage(source, _scene(source, scene_side))
    try:
        pixels = np.asarray(LoadRGBImage()({'img_path': source})['img'])
    except ValueError as error:
        raise ValueError(f'{source} cannot be read as an image ({error})') from error
    if fit == 'whole':
        return ShownImage(source, pixels)
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return ShownImage(source, pixels[top : top + side, left : left + side], (left, top))


def _scene(source: str, side: int) -> np.ndarray:
    split, _, index = source.removeprefix(SCENES).partition(':')
    if not index.isdecimal():
        raise ValueError(f'{source!r} names no scene: expected scenes:SPLIT:INDEX, such as scenes:val:7')
    return SceneCollection(split, int(index) + 1, side)[int(index)][0]


def patch_grid(height: int, width: int, short_side: int, patch_size: int) -> Grid:
    """The whole number of patches that an image is resized to, nearest to its own shape.

    Args:
        height: Of the image, in pixels.
        width: Of the image.
        short_side: What its shorter side becomes, in pixels.
        patch_size: Patch side in pixels.

    Returns:
        Rows and columns of patches; the shape of the image changes by half a patch at most.

    Raises:
        ValueError: If the short side holds no patch, or there are more than ``MAX_PATCHES``.
    """
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
    """An image for a network: uint8 RGB ``(H, W, 3)`` to ``(1, 3, h * p, w * p)`` on the 0–255 scale."""
    size = (grid[1] * patch_size, grid[0] * patch_size)
    image = Image.fromarray(pixels)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
