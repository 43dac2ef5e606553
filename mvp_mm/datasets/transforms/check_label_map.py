"""Check that a label map holds classes of its dataset and covers its image."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

LISTED = 5


class LabelMapError(ValueError):
    """A label map that does not fit its image or its dataset."""


@TRANSFORMS.register_module()
class CheckLabelMap(BaseTransform):
    """Check what mmseg's ``LoadAnnotations`` has loaded, right after it.

    Required keys: ``num_classes`` (from :class:`SegmentationFolder`), ``ori_shape``, ``seg_map_path``,
    ``reduce_zero_label``. A sample without ``gt_seg_map``, such as a user's photograph, passes.

    Args:
        ignore_index: Value of ignored pixels. Default 255, as in mmseg's heads.

    Raises:
        LabelMapError: If the map holds colours or a label that is no class, or is not of its image's size.
    """

    def __init__(self, ignore_index: int = 255) -> None:
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Return the sample as it is."""
        labels = results.get('gt_seg_map')
        if labels is None:
            return results
        path = results['seg_map_path']
        if labels.ndim == 0:  # of one pixel
            labels = labels.reshape(1, 1)
        if labels.ndim != 2:
            raise LabelMapError(
                f'{path} holds colours ({labels.shape[-1]} channels): expected a PNG of one channel whose '
                'values are class numbers. Convert each colour to its number'
            )
        height, width = results['ori_shape']
        if labels.shape != (height, width):
            advice = 'make both of one size (resize label maps without interpolation)'
            if labels.shape == (width, height):
                advice = 'photographs are turned by their EXIF tag: turn the label map as well'
            raise LabelMapError(
                f'{path} has {labels.shape[1]}x{labels.shape[0]} pixels, its image {width}x{height}: {advice}'
            )
        num_classes = results['num_classes']
        wrong = labels[(labels >= num_classes) & (labels != self.ignore_index)]
        if wrong.size:
            first = int(results['reduce_zero_label'])  # these label maps count from 1
            found = [str(label) for label in np.unique(wrong) + first]
            last = ['...', found[-1]] if len(found) > LISTED else []
            ignored = f'{self.ignore_index}, which is ignored'
            if first:
                ignored = f'0 and {self.ignore_index}, which are ignored (reduce_zero_label=True)'
            raise LabelMapError(
                f'{path} has the label{"s" * (len(found) > 1)} {", ".join(found[:LISTED] + last)}, and the '
                f'dataset has {num_classes} classes: allowed are {first} to {num_classes - 1 + first}, and '
                f'{ignored}. Name all classes (in the config, or by --classes of mvp-mm), or change the maps'
            )
        return results
