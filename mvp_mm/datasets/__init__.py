"""Sources of samples, their order, decoding, augmentation, masks and packing."""

from .samplers.endless_sampler import EndlessSampler
from .samplers.epoch_sampler import EpochSampler
from .samplers.sample_index import SampleIndex
from .sources.image_folder import UnlabelledImages
from .sources.labelled_images import LabelledImages
from .sources.sample_source import SampleSource
from .sources.scene_images import SceneImages
from .transforms.block_mask import BlockwiseMask
from .transforms.decode_image import UnreadableImageError
from .transforms.fast_crop import FastCrop
from .transforms.load_image_from_file import LoadImageFromFile
from .transforms.load_rgb_image import LoadRGBImage
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
    'SampleSource',
    'SceneImages',
    'UnlabelledImages',
    'UnreadableImageError',
]
