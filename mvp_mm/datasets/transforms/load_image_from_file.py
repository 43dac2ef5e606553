"""The loader of the downstream configs: the pixels of pre-training, for mmcv's transforms."""

from mmcv.transforms import BaseTransform

from ...registry import REGISTRIES
from .decode_image import decode_sample


@REGISTRIES['TRANSFORMS'].register_module()
class LoadImageFromFile(BaseTransform):
    """:class:`.LoadRGBImage`, but ``img`` is an array in mmcv's order BGR, uint8 ``(height, width, 3)``.

    mmcv's loader of the same name drops the alpha channel, cuts 16 bits to 8 in another way, fills the
    missing part of a truncated JPEG with grey, and does not read every format. The name is kept because
    the inferencers of mmpretrain and mmseg look for it in a pipeline; configs select this class by
    ``dict(type='LoadImageFromFile', _scope_='mvp_mm')``.
    """

    def transform(self, results: dict) -> dict:
        results['img'] = decode_sample(results, order='BGR')
        return results
