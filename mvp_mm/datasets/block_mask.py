"""BEiT's block-wise masking."""

import math
import random

import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS

ATTEMPTS_PER_BLOCK = 10  # BEiT masking_generator.py
# BEiT's own rule gives up short of the wanted number in about a third of the draws (at 75 of 196). Such
# a draw is thrown away, which leaves exactly BEiT's distribution given the full number.
MAX_RESTARTS = 50


@TRANSFORMS.register_module()
class BlockwiseMask(BaseTransform):
    """Mask rectangular blocks of patches until exactly the wanted number is masked.

    A block's area is drawn uniformly between ``min_num_patches`` and what is still to mask, its aspect
    ratio log-uniformly; it is kept if it adds at least one patch and no more than is still to mask.
    Blocks reach every row and column. It takes the arguments of mmpretrain's ``BEiTMaskGenerator``,
    which never masks the last row and column. Draws come from Python's ``random``.

    Added key: ``mask``, bool ``(rows, columns)``, True = masked.

    Args:
        input_size: Patch grid, int or ``(rows, columns)``; 14 for 224 pixels and patch 16.
        num_masking_patches: Patches to mask; 75 in the paper (§3.3).
        min_num_patches: Smallest target area of a block. Default 4, as in mmpretrain; BEiT's recipe 16.
        max_num_patches: Largest one. Default None: what is still to mask.
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
        if isinstance(input_size, int):
            input_size = (input_size, input_size)
        self.rows, self.cols = input_size
        if not 0 <= num_masking_patches <= self.rows * self.cols:
            raise ValueError(
                f'cannot mask {num_masking_patches} patches of a {self.rows}x{self.cols} grid, which has '
                f'{self.rows * self.cols}: input_size is the patch grid (crop size / patch size)'
            )
        if min_num_patches < 1 or min_aspect <= 0:
            raise ValueError(
                f'min_num_patches={min_num_patches} and min_aspect={min_aspect} must be positive'
            )
        self.num_masking_patches = num_masking_patches
        self.min_num_patches = min_num_patches
        self.max_num_patches = num_masking_patches if max_num_patches is None else max_num_patches
        self.log_aspect = (math.log(min_aspect), math.log(max_aspect or 1 / min_aspect))

    def transform(self, results: dict) -> dict:
        """Add the mask."""
        results['mask'] = self.draw()
        return results

    def draw(self) -> np.ndarray:
        """One mask: bool ``(rows, columns)``."""
        for _ in range(MAX_RESTARTS):
            lines, count = self._blocks()
            if count == self.num_masking_patches:
                break
        else:
            # Only where the wanted number is near the whole grid: single patches fill the rest.
            self._fill(lines, self.num_masking_patches - count)
        num_bytes = -(-self.cols // 8)
        packed = b''.join(line.to_bytes(num_bytes, 'little') for line in lines)
        rows = np.frombuffer(packed, np.uint8).reshape(self.rows, num_bytes)
        return np.unpackbits(rows, axis=1, count=self.cols, bitorder='little').astype(bool)

    def _blocks(self) -> tuple[list[int], int]:
        """BEiT's rule: a grid as one integer a row (bit = masked column), and how many it masks."""
        lines = [0] * self.rows
        count = 0
        while count < self.num_masking_patches:
            left_over = min(self.num_masking_patches - count, self.max_num_patches)
            added = self._add_block(lines, left_over)
            if added == 0:
                break
            count += added
        return lines, count

    def _add_block(self, lines: list[int], left_over: int) -> int:
        for _ in range(ATTEMPTS_PER_BLOCK):
            area = random.uniform(self.min_num_patches, left_over)
            aspect = math.exp(random.uniform(*self.log_aspect))
            height = round(math.sqrt(area * aspect))
            width = round(math.sqrt(area / aspect))
            if not (0 < height < self.rows and 0 < width < self.cols):
                continue
            top = random.randint(0, self.rows - height)
            bits = ((1 << width) - 1) << random.randint(0, self.cols - width)
            block = range(top, top + height)
            added = sum((bits & ~lines[row]).bit_count() for row in block)
            if 0 < added <= left_over:
                for row in block:
                    lines[row] |= bits
                return added
        return 0

    def _fill(self, lines: list[int], missing: int) -> None:
        free = [
            (row, col) for row in range(self.rows) for col in range(self.cols) if not lines[row] >> col & 1
        ]
        for row, col in random.sample(free, missing):
            lines[row] |= 1 << col

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(input_size=({self.rows}, {self.cols}), '
            f'num_masking_patches={self.num_masking_patches}, '
            f'min_num_patches={self.min_num_patches}, max_num_patches={self.max_num_patches})'
        )
