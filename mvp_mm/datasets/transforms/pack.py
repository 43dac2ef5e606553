"""The last step of the pre-training pipeline."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.datasets.transforms import PackInputs
from mmpretrain.registry import TRANSFORMS
from mmpretrain.structures import DataSample
from PIL import Image


@TRANSFORMS.register_module()
class PackMaskedInputs(BaseTransform):
    """Pack crop and mask so that a batch of either is one tensor.

    mmpretrain's ``PackInputs`` hides each mask in its data sample, and a batch of 256 then crosses from
    worker to trainer as 256 tensors; here the loader's workers stack them.

    Required keys: ``img``, ``mask``. The result has ``inputs`` (uint8 ``(3, H, W)``), ``mask`` (bool
    ``(h, w)``) and ``data_samples`` with the meta keys.

    Args:
        meta_keys: What to keep of the results. Default ``('sample_idx', 'img_path')``.
    """

    def __init__(self, meta_keys: Sequence[str] = ('sample_idx', 'img_path')) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack one sample."""
        metainfo = {key: results[key] for key in self.meta_keys if key in results}
        return dict(
            inputs=channels_first(results['img']),
            mask=torch.from_numpy(results['mask']),
            data_samples=DataSample(metainfo=metainfo),
        )


def channels_first(image: Image.Image | np.ndarray | torch.Tensor) -> torch.Tensor:
    """An image as ``(3, H, W)``.

    Args:
        image: PIL image, array ``(H, W, 3)`` or tensor ``(3, H, W)``.

    Returns:
        Contiguous tensor of the image's dtype.
    """
    if not (isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3):
        return PackInputs.format_input(image)
    planes = np.empty((3, *image.shape[:2]), image.dtype)
    cv2.split(image, list(planes))  # a ninth of the time of torch's permute and contiguous
    return torch.from_numpy(planes)
