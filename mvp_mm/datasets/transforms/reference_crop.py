"""A random crop in BEiT's order of work: each step on the whole image, by torchvision and Pillow."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tvf

BRIGHTNESS, CONTRAST, SATURATION = range(3)  # torchvision's numbers
ADJUST = {
    BRIGHTNESS: tvf.adjust_brightness,
    CONTRAST: tvf.adjust_contrast,
    SATURATION: tvf.adjust_saturation,
}


class CropDraw(NamedTuple):
    """What is random about a crop.

    Args:
        box: Top, left, height and width, pixels, in the image after the flip.
        flipped: Whether left and right are swapped.
        steps: ``(BRIGHTNESS | CONTRAST | SATURATION, factor)``, in the order in which they are applied.
    """

    box: tuple[int, int, int, int]
    flipped: bool
    steps: Sequence[tuple[int, float]]


def beit_order_crop(pixels: np.ndarray, size: tuple[int, int], draw: CropDraw) -> np.ndarray:
    """Jitter an image, flip it, cut the crop and resize it: what :class:`FastCrop` has to give.

    Args:
        pixels: RGB, uint8 ``(height, width, 3)``.
        size: ``(height, width)`` of the crop.
        draw: From :meth:`FastCrop.draw`.

    Returns:
        uint8 ``(*size, 3)``.
    """
    image = Image.fromarray(pixels)
    for step, factor in draw.steps:
        image = ADJUST[step](image, factor)
    if draw.flipped:
        image = tvf.hflip(image)
    return np.array(tvf.resized_crop(image, *draw.box, list(size), InterpolationMode.BICUBIC))
