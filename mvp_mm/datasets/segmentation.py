"""What the segmentation configs need of this package, registered with mmseg.

Configs import this module (``custom_imports``); ``import mvp_mm`` does not, as only segmentation needs mmseg.
"""

from mmseg.datasets.transforms import LoadAnnotations, LoadImageFromNDArray
from mmseg.datasets.transforms.loading import InferencerLoader

from ..registry import REGISTRIES
from .sources.ade20k import ADE20KImages as ADE20KImages
from .sources.camvid import CamVidDataset as CamVidDataset
from .sources.scene_segmentation import SceneSegmentation as SceneSegmentation
from .sources.segmentation_folder import SegmentationFolder as SegmentationFolder
from .transforms.check_label_map import CheckLabelMap as CheckLabelMap
from .transforms.check_label_map import LabelMapError as LabelMapError

# mmseg's inference takes away the step whose type is exactly `LoadAnnotations`, and puts one of the other two
# in the place of `LoadImageFromFile`, so these names have no prefix. That step, and what configs inherit from
# `mvp_mm::...`, have the scope mvp_mm, where the names would mean mmcv's classes, or none.
for step in (LoadAnnotations, LoadImageFromNDArray, InferencerLoader):
    REGISTRIES['TRANSFORMS'].register_module(module=step, force=True)
