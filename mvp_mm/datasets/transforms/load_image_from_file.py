"""The loader of the downstream configs: the pixels that pre-training reads, for mmcv's transforms."""

from mmcv.transforms import BaseTransform

from ...registry import REGISTRIES
from .decode_image import read_rgb
from .load_rgb_image import UnreadableImageError


@REGISTRIES['TRANSFORMS'].register_module()
class LoadImageFromFile(BaseTransform):
    """Read ``results['img_path']`` to the pixels of :func:`.read_rgb`, in mmcv's order BGR.

    mmcv's loader of the same name drops the alpha channel, cuts 16 bits to 8 in another way, fills what
    is missing of a truncated JPEG with grey, and does not read every format. The name is kept because the
    inferencers of mmpretrain and mmseg look for it in a pipeline; a config asks for this class by
    ``dict(type='LoadImageFromFile', _scope_='mvp_mm')``.

    Required keys: ``img_path``. Added keys: ``img`` (BGR, uint8 ``(height, width, 3)``), ``ori_shape`` and
    ``img_shape`` (height, width).

    Raises:
        UnreadableImageError: On a file that :class:`.LoadRGBImage` cannot read either; it names the file.
    """

    def transform(self, results: dict) -> dict:
        """Add the image."""
        path = results['img_path']
        try:
            image = read_rgb(path, order='BGR')
        except UnreadableImageError as error:
            raise UnreadableImageError(
                f'{path} cannot be read ({error}): replace the file, or delete it'
            ) from error
        results['img'] = image
        results['ori_shape'] = results['img_shape'] = image.shape[:2]
        return results
