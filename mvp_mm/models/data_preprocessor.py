"""From a collated batch to what the algorithm takes."""

from collections.abc import Sequence
from functools import cache

import torch
from mmengine.model import BaseDataPreprocessor
from mmpretrain.registry import MODELS
from torch import Tensor


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


@MODELS.register_module()
class MVPDataPreprocessor(BaseDataPreprocessor):
    """Move one crop to the device and normalise it there for the student.

    The teacher sees the very same crop: its generator re-normalises this output, so an image travels
    to the device once, as uint8.

    Args:
        mean: Channel means of the student, on the 0–255 scale. Default ImageNet's RGB (BEiT recipe).
        std: Channel standard deviations on the 0–255 scale.
        bgr_to_rgb: Swap the channels of images loaded by OpenCV-style pipelines. Default False, because
            this package's pipelines give RGB.
        non_blocking: Copy to the device without waiting. Default True.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        bgr_to_rgb: bool = False,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f'mean and std need three values each, std positive; got {mean}, {std}')
        self.bgr_to_rgb = bgr_to_rgb
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: ``inputs``: uint8 or float ``(B, 3, H, W)`` on the 0–255 scale, or a list of B such
                ``(3, H, W)``; ``mask``: ``(B, h, w)``, optional; ``data_samples``: B samples, optional,
                whose ``mask`` is used where there is no ``mask`` entry.
            training: Not used; images are treated the same in both modes.

        Returns:
            Dict with ``inputs`` (float32, normalised), ``mask`` (bool ``(B, h, w)`` or None) and
            ``data_samples``.

        Raises:
            ValueError: If the crops of a batch differ in size or are not three-channel images.
        """
        samples = data.get('data_samples')
        mask = data.get('mask')
        if mask is None and samples is not None and 'mask' in samples[0]:
            mask = [sample.mask for sample in samples]
        images = self._to_device(self._stacked(data['inputs'], 'images'))
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f'expected images (B, 3, H, W), got shape {tuple(images.shape)}')
        if self.bgr_to_rgb:
            images = images.flip(1)
        if mask is not None:
            mask = self._to_device(self._stacked(mask, 'masks')).to(torch.bool)
        images = torch.sub(images, self.mean).div_(self.std)  # in two passes, bytes to normalised float32
        return dict(inputs=images, mask=mask, data_samples=samples)

    def _to_device(self, tensor: Tensor) -> Tensor:
        device = self.mean.device
        if not (self._non_blocking and device.type == 'cuda' and tensor.device.type == 'cpu'):
            return tensor.to(device, non_blocking=self._non_blocking)
        # On a stream of its own, so that the copy runs beside the step before, which still computes.
        current, copies = torch.cuda.current_stream(device), _copy_stream(device)
        with torch.cuda.stream(copies):
            copied = tensor.to(device, non_blocking=True)
        current.wait_stream(copies)
        copied.record_stream(current)
        return copied

    @staticmethod
    def _stacked(values: Tensor | Sequence[Tensor], what: str) -> Tensor:
        if isinstance(values, Tensor):
            return values
        shapes = {tuple(value.shape) for value in values}
        if len(shapes) > 1:
            raise ValueError(f'the {what} of a batch must have one shape, got {sorted(shapes)}')
        return torch.stack([torch.as_tensor(value) for value in values])
