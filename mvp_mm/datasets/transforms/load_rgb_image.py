"""Read any photograph as upright 8-bit RGB."""

import struct
from functools import cache

import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS
from PIL import Image, ImageCms

# What shows through transparent pixels: ImageNet's mean colour, which normalises to zero.
BACKGROUND = (124, 116, 104)
# What Pillow raises on a file that it cannot decode.
UNREADABLE = (
    OSError,  # missing, no permission, truncated, not an image
    SyntaxError,  # Pillow's word for a broken PNG
    ValueError,
    EOFError,
    struct.error,
    TypeError,  # these three: Pillow on broken metadata, TIFF's above all
    LookupError,
    ArithmeticError,
    Image.DecompressionBombError,
)
ORIENTATION = 0x0112  # Exif's tag
UPRIGHT_BY = {  # by the tag's value; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(ValueError):
    """An image file that cannot be decoded, or not opened."""


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert an opened image to RGB.

    Args:
        image: Any mode: grey, palette, CMYK, LAB, alpha, 16-bit, float.

    Returns:
        8-bit RGB, turned upright by its EXIF tag if that can be read; alpha is composited over ImageNet's
        mean colour, and values beyond 8 bits are scaled, not clipped.
    """
    image = _upright(image)
    if image.mode == 'RGB':
        return image
    if image.mode.startswith('I') or image.mode == 'F':
        return _scaled_grey(image)
    if 'transparency' in image.info or image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa'):
        image = image.convert('RGBA')
        flat = Image.new('RGB', image.size, BACKGROUND)
        flat.paste(image, mask=image.getchannel('A'))
        return flat
    if image.mode == 'LAB':
        return ImageCms.applyTransform(image, _lab_to_srgb())
    return image.convert('RGB')


def _upright(image: Image.Image) -> Image.Image:
    # not ImageOps.exif_transpose, which also writes the tags anew and fails where one of them is damaged
    image.load()
    try:
        method = UPRIGHT_BY.get(image.getexif().get(ORIENTATION))
    except UNREADABLE:  # damaged metadata say nothing about the pixels, which are there by now
        method = None
    return image if method is None else image.transpose(method)


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    profiles = ImageCms.createProfile('LAB'), ImageCms.createProfile('sRGB')
    return ImageCms.buildTransform(*profiles, 'LAB', 'RGB')


def _scaled_grey(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    peak = float(values.max())
    if image.mode.startswith('I;16'):
        full_scale = 65535.0
    else:  # 32-bit integers or floats do not tell their range: the smallest common one that holds them
        ranges = (1.0, 255.0, 65535.0) if image.mode == 'F' else (255.0, 65535.0)
        full_scale = next((limit for limit in ranges if peak <= limit), peak)
    grey = (values * (255 / full_scale)).clip(0, 255).round().astype(np.uint8)
    return Image.fromarray(grey).convert('RGB')


@TRANSFORMS.register_module()
class LoadRGBImage(BaseTransform):
    """Read ``results['img_path']`` with Pillow.

    JPEG, PNG, WebP, TIFF, BMP and whatever else Pillow opens; of an animation, the first frame.

    Required keys: ``img_path``. Added keys: ``img`` (PIL image, RGB), ``ori_shape`` and ``img_shape``
    (height, width).

    Raises:
        UnreadableImageError: If the file is missing, truncated, no image, or a decompression bomb.
    """

    def transform(self, results: dict) -> dict:
        """Add the image."""
        path = results['img_path']
        try:
            with Image.open(path) as image:
                image = as_rgb(image)
        except UNREADABLE as error:
            raise UnreadableImageError(f'{type(error).__name__}: {error}') from error
        results['img'] = image
        results['ori_shape'] = results['img_shape'] = (image.height, image.width)
        return results
