"""MAE's masking: patches at random, equally many in every image."""

import random

import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomMask(BaseTransform):
    """Mask a share of the patches, each equally likely, drawn for each sample.

    Draws come from Python's ``random``. Added key: ``mask``, bool ``(rows, columns)``, True = masked.

    Args:
        input_size: Patch grid, int or ``(rows, columns)``; 14 for 224 pixels and patch 16.
        mask_ratio: Share that is masked; as in MAE, ``int((1 - mask_ratio) * patches)`` stay. Default 0.75
            (MAE, RILS). 0 masks nothing: MVP is then plain feature distillation.

    Raises:
        ValueError: If no patch would stay, or fewer than none is masked.
    """

    def __init__(self, input_size: int | tuple[int, int], mask_ratio: float = 0.75) -> None:
        self.rows, self.cols = (input_size, input_size) if isinstance(input_size, int) else input_size
        patches = self.rows * self.cols
        self.num_masked = patches - int((1 - mask_ratio) * patches)
        if not 0 <= self.num_masked < patches:
            raise ValueError(
                f'mask_ratio={mask_ratio} masks {self.num_masked} of {patches} patches: '
                'expected a ratio from 0, and not all of them'
            )

    def transform(self, results: dict) -> dict:
        """Add the mask."""
        mask = np.zeros(self.rows * self.cols, dtype=bool)
        mask[random.sample(range(len(mask)), self.num_masked)] = True
        return dict(results, mask=mask.reshape(self.rows, self.cols))
