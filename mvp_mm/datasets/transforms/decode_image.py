"""Read photographs as arrays, ordinary JPEG files by a faster library than Pillow."""

from io import BytesIO

import numpy as np
from PIL import Image

from .load_rgb_image import ORIENTATION, UNREADABLE, UPRIGHT_BY, LoadRGBImage

try:
    import simplejpeg  # a wheel of libjpeg-turbo: the library that Pillow decodes with, and the same pixels
except ImportError:
    simplejpeg = None

START_OF_IMAGE = b'\xff\xd8\xff'
# JPEG markers (ITU-T T.81, table B.1).
APP1, START_OF_SCAN = 0xE1, 0xDA  # APP1: Exif or XMP
ORDINARY_COLORS = ('YCbCr', 'Gray', 'RGB')  # simplejpeg's words; not CMYK


def read_rgb(path: str, fast: bool = True, order: str = 'RGB') -> np.ndarray:
    """Read an image as :class:`LoadRGBImage` does, to the same pixels and with the same errors.

    simplejpeg decodes what has nothing special: JPEG files, grey or of three colours, upright by their
    Exif, not of a size that Pillow warns of, and without any error or warning on the way. Pillow reads all
    others, and decides what is unreadable.

    Args:
        path: Of the file.
        fast: Default True; False: everything by Pillow.
        order: Of the channels: ``'RGB'`` (default) or ``'BGR'``, for OpenCV and mmcv.

    Returns:
        uint8 ``(height, width, 3)``, contiguous and writeable.

    Raises:
        UnreadableImageError: If the file is missing, truncated, no image, or a decompression bomb.
    """
    pixels = _decoded(path, order) if fast and simplejpeg is not None else None
    if pixels is None:
        pixels = np.array(LoadRGBImage().transform(dict(img_path=path))['img'])
        if order == 'BGR':
            pixels = np.ascontiguousarray(pixels[..., ::-1])
    return pixels


def _decoded(path: str, order: str = 'RGB') -> np.ndarray | None:
    """The pixels of an ordinary JPEG file, else None."""
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except OSError:
        return None
    if not data.startswith(START_OF_IMAGE):
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        limit = Image.MAX_IMAGE_PIXELS
        if colors not in ORDINARY_COLORS or (limit is not None and height * width > limit):
            return None
        if _has_app1(data) and not _is_upright(data):
            return None
        return simplejpeg.decode_jpeg(data, order)
    except (ValueError, IndexError):  # whatever libjpeg-turbo complains of, were it only a warning
        return None


def _has_app1(data: bytes) -> bool:
    position = 2
    while (marker := data[position + 1]) != START_OF_SCAN:
        if marker == APP1:
            return True
        position += 2 + (data[position + 2] << 8 | data[position + 3])
    return False


def _is_upright(data: bytes) -> bool:
    try:
        with Image.open(BytesIO(data)) as image:  # reads the headers only
            return image.getexif().get(ORIENTATION) not in UPRIGHT_BY
    except UNREADABLE:
        return False
