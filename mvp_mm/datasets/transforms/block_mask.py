"""BEiT's block-wise masking."""

import math
import random

import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS

ATTEMPTS_PER_BLOCK = 10  # BEiT masking_generator.py
# BEiT's own rule gives up short of the wanted number in about a third of the draws (at 75 of 196). Such a
# draw is thrown away, which leaves exactly BEiT's distribution given the full number.
MAX_RESTARTS = 50


@TRANSFORMS.register_module()
class BlockwiseMask(BaseTransform):
    """Mask rectangular blocks of patches until exactly the wanted number is masked.

    A block's area is uniform between ``min_num_patches`` and the number still to mask, its aspect ratio
    log-uniform; it is kept if it adds at least one patch and no more than are still to mask. mmpretrain's
    ``BEiTMaskGenerator``, with the same arguments, never masks the last row and column. Draws come from
    Python's ``random``. Added key: ``mask``, bool ``(rows, columns)``, True = masked.

    Args:
        input_size: Patch grid, int or ``(rows, columns)``; 14 for 224 pixels and patch 16.
        num_masking_patches: Patches to mask; 75 in the paper (§3.3).
        min_num_patches: Smallest target area of a block. Default 4, as in mmpretrain; BEiT's recipe 16.
        max_num_patches: Largest one. Default None: the number still to mask.
        min_aspect: Smallest aspect ratio. Default 0.3 (BEiT recipe).
        max_aspect: Largest one. Default None: ``1 / min_aspect``.

    Raises:
        ValueError: If the grid has fewer patches than are to be masked, or a bound is out of range.
    """

    def __init__(
        self,
        input_size: int | tuple[int, int],
        num_masking_patches: int,
        min_num_patches: int = 4,
        max_num_patches: int | None = None,
        min_aspect: float = 0.3,
        max_aspect: float | None = None,
    ) -> None:
        self.rows, self.cols = (input_size, input_size) if isinstance(input_size, int) else input_size
        if not 0 <= num_masking_patches <= self.rows * self.cols:
            raise ValueError(
                f'cannot mask {num_masking_patches} patches of a {self.rows}x{self.cols} grid, which has '
                f'{self.rows * self.cols}: input_size is the patch grid (crop size / patch size)'
            )
        if min_num_patches < 1 or min_aspect <= 0:
            raise ValueError(f'{min_num_patches=} and {min_aspect=} must be positive')
        self.num_masking_patches, self.min_num_patches = num_masking_patches, min_num_patches
        self.max_num_patches = num_masking_patches if max_num_patches is None else max_num_patches
        self.log_aspect = (math.log(min_aspect), math.log(max_aspect or 1 / min_aspect))
        # [height][width]: the block in the grid's first corner, as bits; a shift puts it anywhere.
        column = [sum(1 << row * self.cols for row in range(height)) for height in range(self.rows)]
        self._shapes = [[((1 << width) - 1) * bits for width in range(self.cols)] for bits in column]

    def transform(self, results: dict) -> dict:
        return dict(results, mask=self.draw())

    def draw(self) -> np.ndarray:
        """Draw one mask: bool ``(rows, columns)``."""
        for _ in range(MAX_RESTARTS):
            grid, count = self._blocks()
            if count == self.num_masking_patches:
                break
        else:  # only where the wanted number is near the whole grid: single patches fill the rest
            free = [patch for patch in range(self.rows * self.cols) if not grid >> patch & 1]
            for patch in random.sample(free, self.num_masking_patches - count):
                grid |= 1 << patch
        packed = np.frombuffer(grid.to_bytes(-(-self.rows * self.cols // 8), 'little'), np.uint8)
        bits = np.unpackbits(packed, count=self.rows * self.cols, bitorder='little')
        return bits.view(bool).reshape(self.rows, self.cols)

    def _blocks(self) -> tuple[int, int]:
        """Apply BEiT's rule: a grid as one integer (a bit a patch, row after row), and how many it masks."""
        # A pre-training sample needs about 24 tries, so everything a try looks up is looked up once, and
        # ``random.uniform`` and ``random.randint`` are written out (the same draws in the same order).
        random_, getrandbits, exp, sqrt = random.random, random.getrandbits, math.exp, math.sqrt
        rows, cols, shapes = self.rows, self.cols, self._shapes
        smallest, largest = self.min_num_patches, self.max_num_patches
        low, log_range = self.log_aspect[0], self.log_aspect[1] - self.log_aspect[0]
        grid, count, wanted = 0, 0, self.num_masking_patches
        tries = ATTEMPTS_PER_BLOCK
        while count < wanted and tries:
            tries -= 1
            left_over = wanted - count
            if left_over > largest:
                left_over = largest
            area = smallest + (left_over - smallest) * random_()
            aspect = exp(low + log_range * random_())
            height = round(sqrt(area * aspect))
            width = round(sqrt(area / aspect))
            if not (0 < height < rows and 0 < width < cols):
                continue
            places = rows - height + 1
            num_bits = places.bit_length()
            top = getrandbits(num_bits)
            while top >= places:
                top = getrandbits(num_bits)
            places = cols - width + 1
            num_bits = places.bit_length()
            left = getrandbits(num_bits)
            while left >= places:
                left = getrandbits(num_bits)
            joined = grid | shapes[height][width] << top * cols + left
            added = joined.bit_count() - count
            if 0 < added <= left_over:
                grid = joined
                count += added
                tries = ATTEMPTS_PER_BLOCK
        return grid, count
