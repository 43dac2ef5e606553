"""Decode any photograph to upright 8-bit RGB: the one decoder of every pipeline and command.

simplejpeg decodes ordinary JPEGs (grey or three colours, upright, too small for Pillow to warn, faultless).
Pillow decodes all else, and decides what is unreadable. Both yield the same pixels, by libjpeg-turbo.
"""

import struct
from functools import cache
from io import BytesIO
from os import PathLike

import numpy as np
from PIL import Image, ImageCms

from ...renamed import old_names

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

BACKGROUND = (124, 116, 104)  # shows through transparent pixels: ImageNet's mean, which normalises to zero
# Pillow's errors on a file that it cannot decode: missing, truncated, or no image, then broken PNGs and
# metadata, TIFF's above all.
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, TypeError, LookupError, ArithmeticError),
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
ALPHA_MODES = ('RGBA', 'LA', 'PA', 'La', 'RGBa')
JPEG_START = b'\xff\xd8\xff'
ORIENTATION_HEADERS = (b'Exif\0', b'http://ns.adobe.com/xap/')  # segments that may hold one: Exif, XMP


class UnreadableImageError(ValueError):
    """An image that cannot be opened or decoded; ``reason`` says why without naming the image."""

    reason = ''

    @classmethod
    def of(cls, key: str, reason: str) -> 'UnreadableImageError':
        """Name an image and say what to do."""
        error = cls(f'{key} cannot be read ({reason}): replace the file, or delete it')
        error.reason = reason
        return error


def decode_image(
    source: str | PathLike | bytes, fast: bool = True, order: str = 'RGB', key: str | None = None
) -> np.ndarray:
    """Decode an image file; of an animation, the first frame.

    Args:
        source: Path, or the file's bytes.
        fast: Decode ordinary JPEGs by simplejpeg. Default True; False: everything by Pillow.
        order: Of the channels: ``'RGB'`` (default) or ``'BGR'``, for OpenCV and mmcv.
        key: Name of the image in errors. Default: its path.

    Returns:
        uint8 ``(height, width, 3)``, contiguous and writeable.

    Raises:
        UnreadableImageError: If the file is missing, truncated, no image, or a decompression bomb.
    """
    pixels = _by_simplejpeg(source, order) if fast and simplejpeg is not None else None
    if pixels is not None:
        return pixels
    pixels = np.array(_by_pillow(source, key))
    return np.ascontiguousarray(pixels[..., ::-1]) if order == 'BGR' else pixels


def open_rgb(image: str | PathLike | bytes | Image.Image) -> Image.Image:
    """Decode an image file, or convert an opened one, to upright RGB."""
    return as_rgb(image) if isinstance(image, Image.Image) else Image.fromarray(decode_image(image))


def decode_sample(results: dict, fast: bool = True, order: str = 'RGB') -> np.ndarray:
    """Decode ``img_bytes`` or else ``img_path`` of a sample; add ``ori_shape`` and ``img_shape``."""
    source = results['img_bytes'] if 'img_bytes' in results else results['img_path']
    pixels = decode_image(source, fast, order, results.get('key', results.get('img_path')))
    results['ori_shape'] = results['img_shape'] = pixels.shape[:2]
    return pixels


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert an opened image of any mode (grey, palette, CMYK, LAB, alpha, 16-bit, float) to upright RGB.

    Alpha is composited over ImageNet's mean colour, and values beyond 8 bits are scaled, not clipped.
    """
    image.load()
    try:  # not ImageOps.exif_transpose, which also writes the tags anew and fails where one is damaged
        method = UPRIGHT_BY.get(image.getexif().get(ORIENTATION, 1))
    except UNREADABLE:  # damaged metadata say nothing about the pixels, which are there by now
        method = None
    image = image if method is None else image.transpose(method)
    if image.mode == 'RGB' and 'transparency' not in image.info:
        return image
    if image.mode.startswith('I') or image.mode == 'F':
        return _scaled_grey(image)
    if 'transparency' in image.info or image.mode in ALPHA_MODES:
        image = image.convert('RGBA')
        flat = Image.new('RGB', image.size, BACKGROUND)
        flat.paste(image, mask=image.getchannel('A'))
        return flat
    return _lab_to_srgb().apply(image) if image.mode == 'LAB' else image.convert('RGB')


def _by_pillow(source: str | PathLike | bytes, key: str | None) -> Image.Image:
    file, name = (BytesIO(source), 'an image') if isinstance(source, bytes) else (source, str(source))
    try:
        with Image.open(file) as image:
            return as_rgb(image)
    except UNREADABLE as error:
        # Pillow names bytes by the address of their buffer.
        words = str(error).replace(repr(file), repr(key or name)) if isinstance(source, bytes) else error
        raise UnreadableImageError.of(key or name, f'{type(error).__name__}: {words}') from error


def _by_simplejpeg(source: str | PathLike | bytes, order: str = 'RGB') -> np.ndarray | None:
    """Return the pixels of an ordinary JPEG, else None."""
    try:
        data = source if isinstance(source, bytes) else _jpeg_bytes(source)
        if not data.startswith(JPEG_START):
            return None
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        too_large = Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS
        if too_large or colors not in ('YCbCr', 'Gray', 'RGB'):
            return None
        if any(header in data for header in ORIENTATION_HEADERS):
            with Image.open(BytesIO(data)) as image:  # reads the headers only
                if image.getexif().get(ORIENTATION) in UPRIGHT_BY:
                    return None
        return simplejpeg.decode_jpeg(data, order)
    except UNREADABLE:  # and anything libjpeg-turbo complains of, even a mere warning
        return None


def _jpeg_bytes(path: str | PathLike) -> bytes:
    """Read a file whole if it begins like a JPEG."""
    with open(path, 'rb') as file:
        start = file.read(len(JPEG_START))
        return start + file.read() if start == JPEG_START else start


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    profiles = ImageCms.createProfile('LAB'), ImageCms.createProfile('sRGB')
    return ImageCms.buildTransform(*profiles, 'LAB', 'RGB')


def _scaled_grey(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    peak = float(values.max())
    # 32-bit integers and floats do not tell their range: take the smallest common one that holds them.
    ranges = dict(F=(1.0, 255.0, 65535.0), I=(255.0, 65535.0)).get(image.mode, (65535.0,))
    full_scale = next((limit for limit in ranges if peak <= limit), peak)
    grey = (values * (255 / full_scale)).clip(0, 255).round().astype(np.uint8)
    return Image.fromarray(grey).convert('RGB')


__getattr__ = old_names(__name__, read_rgb='decode_image')
