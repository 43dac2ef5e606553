"""What is learnt from: image folders, the order of samples, masks and packing."""

from .block_mask import BlockwiseMask
from .endless_sampler import EndlessSampler
from .epoch_sampler import EpochSampler
from .fast_crop import FastCrop
from .labelled_images import LabelledImages
from .load_image_from_file import LoadImageFromFile
from .load_rgb_image import LoadRGBImage, UnreadableImageError
from .pack_masked_inputs import PackMaskedInputs
from .sample_index import SampleIndex
from .scene_images import SceneImages
from .unlabelled_images import UnlabelledImages

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
