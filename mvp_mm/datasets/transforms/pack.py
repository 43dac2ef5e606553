"""The last step of a pre-training pipeline."""

from collections.abc import Sequence
from typing import Any, TypeGuard

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
    """Pack the fields of a sample so that the loader's ``default_collate`` makes one tensor of each.

    mmpretrain's ``PackInputs`` hides masks and labels in the data sample, and a batch of 256 then crosses
    from worker to trainer as 256 tensors; here the loader's workers stack them. The result has ``inputs``
    (uint8 ``(3, H, W)``), ``mask`` (bool ``(h, w)``) if there is one, ``fields``, and ``data_samples``.

    Args:
        meta_keys: Entries to keep in ``data_samples``. Default ``('sample_idx', 'img_path')``.
        fields: Further entries to pack, such as caption tokens, a label or a second crop: images become
            ``(3, H, W)``, text stays text, everything else a tensor. Default ``()``.

    Raises:
        ValueError: If a sample lacks one of ``fields``.
    """

    def __init__(
        self, meta_keys: Sequence[str] = ('sample_idx', 'img_path'), fields: Sequence[str] = ()
    ) -> None:
        self.meta_keys, self.fields = tuple(meta_keys), tuple(fields)
        self.needs = self.fields

    def transform(self, results: dict) -> dict:
        if missing := [field for field in self.fields if field not in results]:
            raise ValueError(
                f'PackMaskedInputs(fields={self.fields}): the sample has no {", ".join(missing)}, but '
                f'{", ".join(results)}'
            )
        metainfo = {key: results[key] for key in self.meta_keys if key in results}
        fields = (('mask',) if 'mask' in results else ()) + self.fields
        return dict(
            inputs=channels_first(results['img']),
            **{field: _packed(results[field]) for field in fields},
            data_samples=DataSample(metainfo=metainfo),
        )


def _packed(value: Any) -> torch.Tensor | str:
    if isinstance(value, str):
        return value
    is_image = _is_array_image(value) or isinstance(value, Image.Image)
    return channels_first(value) if is_image else torch.as_tensor(value)


def _is_array_image(value: Any) -> TypeGuard[np.ndarray]:
    return isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[2] == 3


def channels_first(image: Image.Image | np.ndarray | torch.Tensor) -> torch.Tensor:
    """Convert a PIL image, an array ``(H, W, 3)`` or a tensor ``(3, H, W)`` to a contiguous ``(3, H, W)``."""
    if not _is_array_image(image):
        return PackInputs.format_input(image)
    planes = np.empty((3, *image.shape[:2]), image.dtype)
    cv2.split(image, list(planes))  # a ninth of the time of torch's permute and contiguous
    return torch.from_numpy(planes)
