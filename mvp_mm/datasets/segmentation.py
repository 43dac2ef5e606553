"""What the segmentation configs need of this package, registered with mmseg.

They import this module (``custom_imports``), and ``import mvp_mm`` does not: mmseg is needed for segmentation
only.
"""

from mmseg.datasets.transforms import LoadAnnotations

from ..registry import REGISTRIES
from .ade20k import ADE20KImages
from .camvid import CamVidDataset
from .check_label_map import CheckLabelMap, LabelMapError
from .scene_segmentation import SceneSegmentation
from .segmentation_folder import SegmentationFolder

__all__ = [
    'ADE20KImages',
    'CamVidDataset',
    'CheckLabelMap',
    'LabelMapError',
    'SceneSegmentation',
    'SegmentationFolder',
]

# This one name has to stand bare in a config, because mmseg's inference takes away the step whose type is
# exactly `LoadAnnotations`. In what is inherited from `mvp_mm::...` names are looked up in the scope mvp_mm,
# where it would be mmcv's class of the same name.
REGISTRIES['TRANSFORMS'].register_module(module=LoadAnnotations, force=True)
