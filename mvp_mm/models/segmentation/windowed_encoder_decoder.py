"""mmseg's segmentor, whose sliding windows go through the network together."""

import torch
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor

from .repeatable_pool import repeat_pooling


@MODELS.register_module()
class WindowedEncoderDecoder(EncoderDecoder):
    """mmseg's ``EncoderDecoder``, with its arguments and parameters, and batched sliding windows.

    mmseg sends one window after another through the network. Here ``test_cfg.window_batch`` of them go at
    once (default 8, counted over the images of the batch), which keeps a GPU busy on a single image. The
    logits are the same up to rounding. Under ``randomness.deterministic=True`` the heads' pooling has
    a gradient that is the same twice.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        repeat_pooling(self)

    def postprocess_result(self, seg_logits: Tensor, data_samples: list | None = None) -> list:
        """mmseg's, whose samples hold logits and whole numbers for a head with one channel too.

        Args:
            seg_logits: Logits ``(N, classes, H, W)``, or ``(N, 1, H, W)`` for two classes told apart by a
                threshold (``decode_head.out_channels=1``).
            data_samples: N samples; their sizes before resizing, padding and flip are restored. Default None.

        Returns:
            N samples with ``seg_logits`` and ``pred_sem_seg``.
        """
        samples = super().postprocess_result(seg_logits, data_samples)
        if seg_logits.shape[1] == 1:
            for sample in samples:
                # mmseg has put the sigmoid here, and its test-time augmentation takes that of it again
                sample.set_data(dict(seg_logits=PixelData(data=sample.seg_logits.data.logit())))
                sample.set_data(dict(pred_sem_seg=PixelData(data=sample.pred_sem_seg.data.long())))
        return samples

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Mean logits of overlapping windows.

        Args:
            inputs: Images ``(N, C, H, W)``, normalised, at least as large as the window.
            batch_img_metas: N dicts; ``img_shape`` of each is set to the window's.

        Returns:
            Logits ``(N, classes, H, W)``.

        Raises:
            ValueError: If ``test_cfg.window_batch`` is below 1.
        """
        batch = self.test_cfg.get('window_batch', 8)
        if batch < 1:
            raise ValueError(f'test_cfg.window_batch={batch} is no number of windows: give 1 or more')
        count, _, height, width = inputs.shape
        rows, cols = (
            _starts(side, crop, stride)
            for side, crop, stride in zip(
                (height, width), self.test_cfg.crop_size, self.test_cfg.stride, strict=True
            )
        )
        # mmseg's heads give logits of this size only if it is a torch.Size
        crop = torch.Size(
            min(side, wanted) for side, wanted in zip((height, width), self.test_cfg.crop_size, strict=True)
        )
        for meta in batch_img_metas:
            meta['img_shape'] = crop
        places = [(image, top, left) for top in rows for left in cols for image in range(count)]
        total = inputs.new_zeros(count, self.out_channels, height, width)
        covered = inputs.new_zeros(height, width)
        for top in rows:
            for left in cols:
                covered[top : top + crop[0], left : left + crop[1]] += 1
        for begin in range(0, len(places), batch):
            part = places[begin : begin + batch]
            windows = torch.stack(
                [inputs[i, :, top : top + crop[0], left : left + crop[1]] for i, top, left in part]
            )
            logits = self.encode_decode(windows, [batch_img_metas[i] for i, _, _ in part])
            for (i, top, left), window in zip(part, logits, strict=True):
                total[i, :, top : top + crop[0], left : left + crop[1]] += window
        return total / covered


def _starts(side: int, crop: int, stride: int) -> list[int]:
    """Where windows begin along an axis: every ``stride``, the last one at the border."""
    steps = max(side - crop + stride - 1, 0) // stride + 1
    return [max(min(step * stride, side - crop), 0) for step in range(steps)]
