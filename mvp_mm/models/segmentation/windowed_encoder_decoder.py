"""mmseg's segmentor with batched sliding windows and, if asked for, a repeatable gradient."""

from itertools import product

import torch
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class WindowedEncoderDecoder(EncoderDecoder):
    """mmseg's ``EncoderDecoder``, with its arguments and parameters, and batched sliding windows.

    ``test_cfg.window_batch`` windows (default 8) go through the network at once, to keep a GPU busy; logits
    are the same up to rounding. With ``randomness.deterministic=True`` pooling has a deterministic gradient.
    """

    task = 'segmentation'

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        repeat_pooling(self)

    def example_inputs(self, batch: int = 1) -> tuple[Tensor]:
        """Zero images ``(batch, 3, H, W)`` of the backbone's size, on its device."""
        return self.backbone.example_inputs(batch)

    def postprocess_result(self, seg_logits: Tensor, data_samples: list | None = None) -> list:
        """Do as mmseg, but with logits and integer labels also for one channel (``(N, 1, H, W)``)."""
        samples = super().postprocess_result(seg_logits, data_samples)
        if seg_logits.shape[1] == 1:
            for sample in samples:
                # mmseg stores the sigmoid, of which its test-time augmentation would take the sigmoid again
                sample.set_data(dict(seg_logits=PixelData(data=sample.seg_logits.data.logit())))
                sample.set_data(dict(pred_sem_seg=PixelData(data=sample.pred_sem_seg.data.long())))
        return samples

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Average the logits of overlapping windows: images ``(N, C, H, W)`` to ``(N, classes, H, W)``."""
        batch = self.test_cfg.get('window_batch', 8)
        if batch < 1:
            raise ValueError(f'test_cfg.window_batch={batch} is no number of windows: give 1 or more')
        count, _, *sides = inputs.shape
        # mmseg's heads resize their logits to this only if it is a torch.Size
        crop = torch.Size(map(min, sides, self.test_cfg.crop_size))
        rows, cols = map(_starts, sides, crop, self.test_cfg.stride)
        for meta in batch_img_metas:
            meta['img_shape'] = crop
        windows = [
            (image, slice(None), slice(top, top + crop[0]), slice(left, left + crop[1]))
            for top, left, image in product(rows, cols, range(count))
        ]
        total = inputs.new_zeros(count, self.out_channels, *sides)
        covered = inputs.new_zeros(count, 1, *sides)
        for begin in range(0, len(windows), batch):
            part = windows[begin : begin + batch]
            crops = torch.stack([inputs[window] for window in part])
            logits = self.encode_decode(crops, [batch_img_metas[image] for image, *_ in part])
            for window, scores in zip(part, logits, strict=True):
                total[window] += scores
                covered[window] += 1
        return total / covered


def _starts(side: int, crop: int, stride: int) -> list[int]:
    """Return where windows begin along an axis: every ``stride``, the last one at the border."""
    steps = max(side - crop + stride - 1, 0) // stride + 1
    return [max(min(step * stride, side - crop), 0) for step in range(steps)]


class RepeatableAvgPool2d(nn.AdaptiveAvgPool2d):
    """``nn.AdaptiveAvgPool2d``; under deterministic algorithms two matrix products.

    CUDA adds up the gradient in no fixed order, which ``torch.use_deterministic_algorithms`` refuses.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Pool ``(..., H, W)`` to ``(..., *output_size)``, in the input's dtype."""
        if not torch.are_deterministic_algorithms_enabled():
            return super().forward(input)
        sizes = self.output_size if isinstance(self.output_size, tuple) else (self.output_size,) * 2
        rows, cols = (
            _mean_weights(side, side if size is None else size, input)
            for side, size in zip(input.shape[-2:], sizes, strict=True)
        )
        with torch.autocast(input.device.type, enabled=False):
            return (rows @ input.to(rows.dtype) @ cols.T).to(input.dtype)


def repeat_pooling(model: nn.Module) -> None:
    """Turn every ``nn.AdaptiveAvgPool2d`` of a model into a :class:`RepeatableAvgPool2d`; subclasses stay."""
    for child in model.modules():
        if type(child) is nn.AdaptiveAvgPool2d:
            child.__class__ = RepeatableAvgPool2d


def _mean_weights(side: int, size: int, like: Tensor) -> Tensor:
    """Weights ``(size, side)`` of torch's windows, found by pooling the identity on the CPU."""
    weights = F.adaptive_avg_pool1d(torch.eye(side, dtype=torch.float64), size).T
    return weights.to(like.device, torch.promote_types(like.dtype, torch.float32), non_blocking=True)
