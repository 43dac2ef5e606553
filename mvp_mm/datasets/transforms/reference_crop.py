"""A random crop in BEiT's order of work: each step on the whole image, by torchvision and Pillow."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tvf

BRIGHTNESS, CONTRAST, SATURATION = range(3)  # torchvision's numbers
ADJUST = (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation)


class CropDraw(NamedTuple):
    """The random draws of a crop."""

    box: tuple[int, int, int, int]  # top, left, height and width, pixels, in the image after the flip
    flipped: bool  # whether left and right are swapped
    steps: Sequence[tuple[int, float]]  # (BRIGHTNESS | CONTRAST | SATURATION, factor), in their order


def reference_crop(pixels: np.ndarray, size: tuple[int, int], draw: CropDraw) -> np.ndarray:
    """Jitter an image, flip it, cut the crop and resize it, with the arguments of :func:`.fast_crop`."""
    image = Image.fromarray(pixels)
    for step, factor in draw.steps:
        image = ADJUST[step](image, factor)
    if draw.flipped:
        image = tvf.hflip(image)
    return np.array(tvf.resized_crop(image, *draw.box, list(size), InterpolationMode.BICUBIC))
