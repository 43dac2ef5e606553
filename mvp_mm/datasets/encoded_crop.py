"""BEiT's augmentation for machines with few cores: the loader draws, the GPU does the work."""

import torch
from mmpretrain.registry import TRANSFORMS

from .fast_crop import FastCrop
from .pack_masked_inputs import channels_first
from .read_rgb import whole_ordinary_jpeg


@TRANSFORMS.register_module()
class EncodedCrop(FastCrop):
    """Read a file and draw a crop of it, but leave both decoding and cutting to the device.

    :class:`DeviceCropPreprocessor` does the rest; ``collate_encoded`` carries the files there. The draws are
    those of :class:`FastCrop`. What is no ordinary JPEG file (another format, CMYK, turned by its Exif, cut
    off, ...) is decoded and cropped here, as :class:`FastCrop` does.

    Required keys: ``img_path``. Added keys: ``img``, a uint8 tensor of the file's bytes ``(n,)`` with
    ``crop_draw`` beside it, or of a crop ``(3, *size)`` without; ``ori_shape`` and ``img_shape`` (height,
    width).

    Args:
        size: As :class:`FastCrop`'s, and equal to the preprocessor's.
        **kwargs: As :class:`FastCrop`'s.

    Raises:
        UnreadableImageError: On a file that :class:`LoadRGBImage` cannot read; of an ordinary JPEG file the
            preprocessor finds it out.
    """

    def transform(self, results: dict) -> dict:
        """Add the file, or the crop."""
        found = whole_ordinary_jpeg(results['img_path'])
        if found is None:
            results = super().transform(results)
            results['img'] = channels_first(results['img'])
            return results
        data, height, width = found
        results['ori_shape'] = height, width
        results['img_shape'] = self.size
        results['img'] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        results['crop_draw'] = self.draw(height, width)
        return results
