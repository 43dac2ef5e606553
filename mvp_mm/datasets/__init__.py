"""What is learnt from: image folders, the order of samples, masks and packing."""

from .samplers.endless_sampler import EndlessSampler
from .samplers.epoch_sampler import EpochSampler
from .samplers.sample_index import SampleIndex
from .sources.image_folder import UnlabelledImages
from .sources.labelled_images import LabelledImages
from .sources.scene_images import SceneImages
from .transforms.block_mask import BlockwiseMask
from .transforms.fast_crop import FastCrop
from .transforms.load_image_from_file import LoadImageFromFile
from .transforms.load_rgb_image import LoadRGBImage, UnreadableImageError
from .transforms.pack import PackMaskedInputs

__all__ = [
    'BlockwiseMask',
    'EndlessSampler',
    'EpochSampler',
    'FastCrop',
    'LabelledImages',
    'LoadImageFromFile',
    'LoadRGBImage',
    'PackMaskedInputs',
    'SampleIndex',
    'SceneImages',
    'UnlabelledImages',
    'UnreadableImageError',
]
