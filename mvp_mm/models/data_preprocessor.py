"""From a collated batch to the algorithm's arguments."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseDataPreprocessor
from mmpretrain.registry import MODELS
from torch import Tensor


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


@MODELS.register_module()
class MVPDataPreprocessor(BaseDataPreprocessor):
    """Move a batch to the device and normalise its images there for the student.

    The teacher's generator re-normalises this output, so an image travels once, as uint8. Other fields of the
    batch (caption tokens, labels) are passed on.

    Args:
        mean: Channel means of the student, on the 0–255 scale. Default ImageNet's RGB (BEiT recipe).
        std: Channel standard deviations on the 0–255 scale.
        bgr_to_rgb: Swap the channels of BGR images. Default False: this package's pipelines load RGB.
        non_blocking: Copy to the device without waiting. Default True.
        image_keys: Fields that hold images. Default ``('inputs',)``.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        bgr_to_rgb: bool = False,
        non_blocking: bool = True,
        image_keys: Sequence[str] = ('inputs',),
    ) -> None:
        super().__init__(non_blocking)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f'mean and std need three values each, std positive; got {mean}, {std}')
        self.bgr_to_rgb = bgr_to_rgb
        self.image_keys = tuple(image_keys)
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: ``inputs`` and other images: uint8 or float ``(B, 3, H, W)``, 0–255, or B ``(3, H, W)``;
                optionally ``mask`` ``(B, h, w)``, or B ``data_samples`` that hold it; further fields.
            training: Not used.

        Returns:
            Images (float32, normalised), ``mask`` (bool ``(B, h, w)`` or None), ``data_samples`` and further
            fields: tensors and stacked lists of tensors on the device, others unchanged.
        """
        samples = data.get('data_samples')
        if data.get('mask') is None and samples and 'mask' in samples[0]:
            data = dict(data, mask=[sample.mask for sample in samples])
        batch: dict[str, Any] = dict.fromkeys(('inputs', 'mask', 'data_samples'))
        batch |= {name: self._moved(name, value) for name, value in data.items()}
        for name in self.image_keys:
            batch[name] = self._normalised(batch[name])
        if batch['mask'] is not None:
            batch['mask'] = batch['mask'].to(torch.bool)
        return batch

    def _normalised(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f'expected images (B, 3, H, W), got shape {tuple(images.shape)}')
        if self.bgr_to_rgb:
            images = images.flip(1)
        return torch.sub(images, self.mean).div_(self.std)  # in two passes, bytes to normalised float32

    def _moved(self, name: str, value: Any) -> Any:
        if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor | np.ndarray):
            shapes = {tuple(item.shape) for item in value}
            if len(shapes) > 1:
                raise ValueError(f'the {name} of a batch must have one shape, got {sorted(shapes)}')
            value = torch.stack([torch.as_tensor(item) for item in value])
        if not isinstance(value, Tensor):
            return value
        device = self.mean.device
        if not (self._non_blocking and device.type == 'cuda' and value.device.type == 'cpu'):
            return value.to(device, non_blocking=self._non_blocking)
        # On a stream of its own, so that the copy runs beside the previous step's computation.
        current, copies = torch.cuda.current_stream(device), _copy_stream(device)
        with torch.cuda.stream(copies):
            copied = value.to(device, non_blocking=True)
        current.wait_stream(copies)
        copied.record_stream(current)
        return copied
