"""The loader of pre-training pipelines that work on PIL images."""

from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from .decode_image import decode_sample


@TRANSFORMS.register_module()
class LoadRGBImage(BaseTransform):
    """Decode ``img_bytes``, or the file ``img_path``, as :func:`.decode_image` does.

    Added keys: ``img`` (PIL image, RGB), ``ori_shape`` and ``img_shape`` (height, width).

    Raises:
        UnreadableImageError: If the image is missing, truncated, no image, or a decompression bomb.
    """

    def transform(self, results: dict) -> dict:
        results['img'] = Image.fromarray(decode_sample(results))
        return results
