"""BEiT's augmentation from file to crop, in little more time than decoding takes."""

import logging
import math
import operator
import random
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from torch.nn import functional
from torchvision.transforms import ColorJitter, InterpolationMode
from torchvision.transforms import functional as tvf

from . import decode_image

BRIGHTNESS, CONTRAST, SATURATION = range(3)  # torchvision's numbers
ADJUST = (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation)
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, Pillow's grey
DIAGONAL = np.eye(3, 4)
FIXED_POINT = 1024  # OpenCV's transform of 8-bit pixels computes in units of 1/1024
# Pillow truncates after every step of the jitter, OpenCV rounds. Not -0.5: a whole number must stay.
TO_FLOOR = -0.49
MEAN_ROWS = 128  # rows of the image that the grey mean is taken from; its accuracy: docs/performance.md
ATTEMPTS = 10  # to draw a box inside the image; torchvision's number, as BEiT's


class CropDraw(NamedTuple):
    """The random draws of a crop."""

    box: tuple[int, int, int, int]  # top, left, height and width, pixels, in the image after the flip
    flipped: bool  # whether left and right are swapped
    steps: Sequence[tuple[int, float]]  # (BRIGHTNESS | CONTRAST | SATURATION, factor), in their order


@TRANSFORMS.register_module()
class FastCrop(BaseTransform):
    """Decode an image, jitter its colours, flip it, and cut a random crop: BEiT's augmentation, made fast.

    Replaces ``LoadRGBImage`` and torchvision's ``ColorJitter``, ``RandomHorizontalFlip`` and
    ``RandomResizedCrop`` (antialiased bicubic): draws have the same distribution, and equal draws give equal
    crops, to within the rounding of 8-bit arithmetic. Only the box of the crop is jittered, before it is
    resized; the rest of the image only contributes its mean grey, around which contrast changes. Draws come
    from Python's ``random``. Keys as of ``LoadRGBImage``, with ``img`` an array uint8 ``(height, width, 3)``.

    Args:
        size: Of the crop, int or ``(height, width)``; 224 in the paper (§3.3.3).
        scale: Smallest and largest share of the image's area. Default: BEiT's, as for all below.
        ratio: Smallest and largest width : height.
        flip: Probability of a horizontal flip.
        brightness: Factors between ``1 - brightness`` and ``1 + brightness``, or two bounds.
        contrast, saturation: Likewise. BEiT leaves the hue alone.
        reference: Work in BEiT's order by Pillow and torchvision: three times as slow. Default False.
        plain: Deprecated name of ``reference``.

    Raises:
        ValueError: If a bound is out of range.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        brightness: float | Sequence[float] = 0.4,
        contrast: float | Sequence[float] = 0.4,
        saturation: float | Sequence[float] = 0.4,
        reference: bool = False,
        plain: bool | None = None,
    ) -> None:
        if plain is not None:
            warnings.warn('FastCrop(plain=) is now reference=', DeprecationWarning, stacklevel=2)
            reference = plain
        height, width = (size, size) if isinstance(size, int) else size
        self.size = height, width
        self.scale, self.ratio, self.flip = tuple(scale), tuple(ratio), flip
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f'scale={self.scale} must be two shares, 0 < smallest <= largest <= 1')
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f'ratio={self.ratio} must be two positive ratios, the smaller one first')
        if not 0 <= flip <= 1:
            raise ValueError(f'flip={flip} must be a probability')
        self.log_ratio = (math.log(self.ratio[0]), math.log(self.ratio[1]))
        checked = ColorJitter(brightness, contrast, saturation)  # raises on bad bounds
        # By step: two bounds, or None for no change.
        self.jitter = (checked.brightness, checked.contrast, checked.saturation)
        self.reference = reference
        if decode_image.simplejpeg is None and not reference:
            told = 'simplejpeg is not installed: Pillow decodes the JPEG files, to the same pixels but slower'
            print_log(told, 'current', level=logging.WARNING)

    def transform(self, results: dict) -> dict:
        results['img'] = self.augment(decode_image.decode_sample(results, fast=not self.reference))
        results['img_shape'] = self.size
        return results

    def augment(self, image: np.ndarray) -> np.ndarray:
        """Draw and cut a crop, uint8 ``(*size, 3)``, of an RGB image, uint8 ``(height, width, 3)``."""
        crop = reference_crop if self.reference else fast_crop
        return crop(image, self.size, self.draw(*image.shape[:2]))

    def draw(self, height: int, width: int) -> CropDraw:
        """Draw a crop of an image of so many pixels, distributed as by torchvision's three transforms."""
        # Python's generator: torchvision's dozen calls of torch take a twentieth of everything else.
        steps = [(step, random.uniform(*bounds)) for step, bounds in enumerate(self.jitter) if bounds]
        random.shuffle(steps)
        flipped = random.random() < self.flip
        return CropDraw(self._box(height, width), flipped, steps)

    def _box(self, height: int, width: int) -> tuple[int, int, int, int]:
        for _ in range(ATTEMPTS):
            area = height * width * random.uniform(*self.scale)
            ratio = math.exp(random.uniform(*self.log_ratio))
            cols, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < cols <= width and 0 < rows <= height:
                return random.randint(0, height - rows), random.randint(0, width - cols), rows, cols
        # The largest box in the middle, of the allowed ratio that is nearest to the image's.
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        rows, cols = min(height, round(width / ratio)), min(width, round(height * ratio))
        return (height - rows) // 2, (width - cols) // 2, rows, cols


def reference_crop(image: np.ndarray, size: tuple[int, int], draw: CropDraw) -> np.ndarray:
    """:func:`fast_crop` in BEiT's order of work: each step on the whole image, by torchvision and Pillow."""
    changed = Image.fromarray(image)
    for step, factor in draw.steps:
        changed = ADJUST[step](changed, factor)
    if draw.flipped:
        changed = tvf.hflip(changed)
    return np.array(tvf.resized_crop(changed, *draw.box, list(size), InterpolationMode.BICUBIC))


def fast_crop(image: np.ndarray, size: tuple[int, int], draw: CropDraw) -> np.ndarray:
    """Cut the crop of a draw, uint8 ``(*size, 3)``, out of an RGB image, uint8 ``(height, width, 3)``."""
    top, left, rows, cols = draw.box
    if draw.flipped:  # the box is one of the flipped image
        left = image.shape[1] - left - cols
    region = jitter(image[top : top + rows, left : left + cols], image, draw.steps)
    crop = resize(region, size)
    return cv2.flip(crop, 1) if draw.flipped else crop


def jitter(region: np.ndarray, image: np.ndarray, steps: Sequence[tuple[int, float]]) -> np.ndarray:
    """Change brightness, contrast and saturation of a region as if the whole image were changed.

    Each step blends a pixel with something (black, the image's mean grey, its own grey), so each is affine
    in pixel and pixel's grey, and so are several: they are applied together, as one 3x4 matrix, up to a
    step that can pass 255 and must be clipped (a factor above 1). ``steps`` as in :class:`CropDraw`.
    """
    # Rows of the image, changed like the region for as long as a contrast is still to come.
    sample = image[:: max(1, len(image) // MEAN_ROWS)] if any(step == CONTRAST for step, _ in steps) else None
    own, grey, constant = 1.0, 0.0, 0.0  # pending: own * pixel + grey * the pixel's grey + constant
    for number, (step, factor) in enumerate(steps, start=1):
        if step == SATURATION:
            own, grey = factor * own, factor * grey + (1 - factor) * (own + grey)
        else:
            blended_with = 0  # black
            if step == CONTRAST and sample is not None:
                mean = (own + grey) * sum(map(operator.mul, LUMA, cv2.mean(sample))) + constant
                blended_with, sample = math.floor(mean + 0.5), None
            own, grey = factor * own, factor * grey
            constant = factor * constant + (1 - factor) * blended_with
        constant += TO_FLOOR
        if factor > 1 and number < len(steps):
            matrix = _matrix(own, grey, constant)
            region = cv2.transform(region, matrix)
            sample = None if sample is None else cv2.transform(sample, matrix)
            own, grey, constant = 1.0, 0.0, 0.0
    return cv2.transform(region, _matrix(own, grey, constant)) if steps else np.ascontiguousarray(region)


def _matrix(own: float, grey: float, constant: float) -> np.ndarray:
    """Return the pending steps for OpenCV, ``(3, 4)``."""
    # OpenCV rounds each entry. Rounded here, with equal sums in the three rows, grey pixels stay grey.
    own, grey = round(own * FIXED_POINT), round(grey * FIXED_POINT)
    red, blue = round(grey * LUMA[0]), round(grey * LUMA[2])
    mixed = red, grey - red - blue, blue, constant * FIXED_POINT
    return (own * DIAGONAL + mixed) / FIXED_POINT


def resize(region: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 ``(h, w, 3)`` to ``(*size, 3)``, antialiased bicubic as Pillow's and torchvision's."""
    height, width = region.shape[:2]
    # With the strides of a batch of one in channels_last, which a permuted array does not get by itself:
    # torch's kernel then goes over the pixels as they lie, in two thirds of the time.
    pixels = torch.from_numpy(region).as_strided((1, 3, height, width), (region.size, 1, 3 * width, 3))
    crop = functional.interpolate(pixels, size, mode='bicubic', antialias=True)
    return crop[0].permute(1, 2, 0).numpy()
