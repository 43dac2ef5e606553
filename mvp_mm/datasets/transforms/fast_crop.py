"""BEiT's augmentation from file to crop, in the time that decoding leaves."""

import logging
import math
import operator
import random
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from mmpretrain.registry import TRANSFORMS
from torch.nn import functional
from torchvision.transforms import ColorJitter

from . import decode_image as reading
from .reference_crop import BRIGHTNESS, CONTRAST, SATURATION, CropDraw, beit_order_crop

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, Pillow's grey
FIXED_POINT = 1024  # OpenCV's transform of 8-bit pixels counts in parts of this
# Pillow cuts off the fraction after every step of the jitter, OpenCV rounds. Not -0.5: a value without a
# fraction must stay.
TO_FLOOR = -0.49
# Rows of the image from which the grey mean is taken. What it costs in accuracy: docs/performance.md.
MEAN_ROWS = 128
ATTEMPTS = 10  # to draw a box inside the image; torchvision's number, as BEiT's


@TRANSFORMS.register_module()
class FastCrop(BaseTransform):
    """Read an image, jitter its colours, flip it, and cut a random crop: BEiT's augmentation, made fast.

    It stands for ``LoadRGBImage``, torchvision's ``ColorJitter``, ``RandomHorizontalFlip`` and
    ``RandomResizedCrop`` (antialiased bicubic): the draws are distributed alike, and equal draws give equal
    crops, to within the rounding of 8-bit arithmetic. What is different is the work: of the image only the
    box of the crop is jittered, before it is resized, and the rest is looked at no more than to know
    the mean grey, around which contrast is changed. Draws come from Python's ``random``.

    Required keys: ``img_path``. Added keys: ``img`` (RGB, uint8 ``(height, width, 3)``), ``ori_shape`` and
    ``img_shape`` (height, width).

    Args:
        size: Of the crop, int or ``(height, width)``; 224 in the paper (§3.3.3).
        scale: Smallest and largest share of the image's area. Default ``(0.08, 1.0)`` (BEiT recipe).
        ratio: Smallest and largest width : height. Default ``(3/4, 4/3)`` (BEiT recipe).
        flip: Probability of a horizontal flip. Default 0.5 (BEiT recipe).
        brightness: Factors between ``1 - brightness`` and ``1 + brightness``, or two bounds. Default 0.4
            (BEiT recipe).
        contrast: Likewise. Default 0.4 (BEiT recipe).
        saturation: Likewise. Default 0.4 (BEiT recipe). BEiT leaves the hue alone.
        plain: Work in BEiT's order with Pillow and torchvision, as :mod:`.beit_order` does: three times as
            slow, to compare with. Default False.

    Raises:
        ValueError: If a bound is out of range.
        UnreadableImageError: On a file that :class:`LoadRGBImage` cannot read either.
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
        plain: bool = False,
    ) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.scale, self.ratio = tuple(scale), tuple(ratio)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(
                f'scale={self.scale} must be two shares of the area, 0 < smallest <= largest <= 1'
            )
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f'ratio={self.ratio} must be two positive ratios, the smaller one first')
        if not 0 <= flip <= 1:
            raise ValueError(f'flip={flip} must be a probability')
        self.flip = flip
        self.log_ratio = (math.log(self.ratio[0]), math.log(self.ratio[1]))
        checked = ColorJitter(brightness, contrast, saturation)  # raises on bad bounds
        # By step: two bounds, or None for no change.
        self.jitter = (checked.brightness, checked.contrast, checked.saturation)
        self.plain = plain
        if reading.simplejpeg is None and not plain:
            print_log(
                'simplejpeg is not installed: Pillow decodes the JPEG files, to the same pixels but slower',
                'current',
                level=logging.WARNING,
            )

    def transform(self, results: dict) -> dict:
        """Add the crop."""
        image = reading.read_rgb(results['img_path'], fast=not self.plain)
        results['ori_shape'] = image.shape[:2]
        results['img_shape'] = self.size
        results['img'] = self.augment(image)
        return results

    def augment(self, image: np.ndarray) -> np.ndarray:
        """Draw, and make the crop.

        Args:
            image: RGB, uint8 ``(height, width, 3)``.

        Returns:
            uint8 ``(*size, 3)``.
        """
        draw = self.draw(*image.shape[:2])
        return beit_order_crop(image, self.size, draw) if self.plain else cropped(image, self.size, draw)

    def draw(self, height: int, width: int) -> CropDraw:
        """What is random about a crop.

        Args:
            height: Of the image, pixels.
            width: Of the image, pixels.

        Returns:
            The draws, which are distributed as those of torchvision's three transforms.
        """
        # From Python's generator: the dozen calls of torch that torchvision makes take 0.1 ms, which is
        # a twentieth of everything else.
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
        # The largest box in the middle, of the ratio that is allowed and nearest to the image's.
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        if ratio > width / height:
            rows, cols = round(width / ratio), width
        elif ratio < width / height:
            rows, cols = height, round(height * ratio)
        else:
            rows, cols = height, width
        return (height - rows) // 2, (width - cols) // 2, rows, cols

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, scale={self.scale}, ratio={self.ratio}, '
            f'flip={self.flip}, brightness={self.jitter[BRIGHTNESS]}, contrast={self.jitter[CONTRAST]}, '
            f'saturation={self.jitter[SATURATION]}, plain={self.plain})'
        )


def cropped(image: np.ndarray, size: tuple[int, int], draw: CropDraw) -> np.ndarray:
    """The crop of an image that belongs to a draw.

    Args:
        image: RGB, uint8 ``(height, width, 3)``.
        size: ``(height, width)`` of the crop.
        draw: From :meth:`FastCrop.draw`.

    Returns:
        uint8 ``(*size, 3)``.
    """
    top, left, rows, cols = draw.box
    if draw.flipped:  # the box is one of the flipped image
        left = image.shape[1] - left - cols
    region = jittered(image[top : top + rows, left : left + cols], image, draw.steps)
    crop = resized(region, size)
    return cv2.flip(crop, 1) if draw.flipped else crop


def jittered(region: np.ndarray, image: np.ndarray, steps: Sequence[tuple[int, float]]) -> np.ndarray:
    """Change brightness, contrast and saturation of a part as if the whole image were changed.

    Each step blends a pixel with something (black, the image's mean grey, its own grey), so each is
    affine in pixel and pixel's grey, and so are several: they are applied together, as one 3x4 matrix, up
    to a step that can pass 255 and must be clipped (a factor above 1).

    Args:
        region: Of the image; uint8 ``(h, w, 3)``.
        image: uint8 ``(height, width, 3)``.
        steps: ``(BRIGHTNESS | CONTRAST | SATURATION, factor)`` in their order.

    Returns:
        A new array of the region's shape.
    """
    # Of the image; changed like the region for as long as a contrast is still to come.
    sample = image[:: max(1, len(image) // MEAN_ROWS)] if any(step == CONTRAST for step, _ in steps) else None
    own, grey, constant = 1.0, 0.0, 0.0  # what is pending: own * pixel + grey * the pixel's grey + constant
    for number, (step, factor) in enumerate(steps, start=1):
        if step == SATURATION:
            own, grey = factor * own, factor * grey + (1 - factor) * (own + grey)
        else:
            blended_with = 0  # black
            if step == CONTRAST:
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
    """The pending steps for OpenCV, ``(3, 4)``.

    OpenCV rounds each entry. Rounded here, with equal sums in the three rows, grey pixels stay grey.
    """
    own, grey = round(own * FIXED_POINT), round(grey * FIXED_POINT)
    red, blue = round(grey * LUMA[0]), round(grey * LUMA[2])
    green, constant = grey - red - blue, constant * FIXED_POINT
    rows = [
        [own + red, green, blue, constant],
        [red, own + green, blue, constant],
        [red, green, own + blue, constant],
    ]
    return np.array(rows) / FIXED_POINT


def resized(region: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Antialiased bicubic resizing, as Pillow's and torchvision's.

    Args:
        region: uint8 ``(h, w, 3)``.
        size: ``(height, width)``.

    Returns:
        uint8 ``(height, width, 3)``.
    """
    height, width = region.shape[:2]
    # With the strides of a batch of one in channels_last, which a permuted array does not get by itself:
    # torch's kernel then goes over the pixels as they lie, in two thirds of the time.
    pixels = torch.from_numpy(region).as_strided((1, 3, height, width), (region.size, 1, 3 * width, 3))
    crop = functional.interpolate(pixels, size, mode='bicubic', antialias=True)
    return crop[0].permute(1, 2, 0).numpy()
