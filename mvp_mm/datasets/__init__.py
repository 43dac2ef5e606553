"""Sources of samples, their order, decoding, augmentation, masks and packing."""

from .prepare.shards import check_shards as check_shards
from .prepare.shards import write_shards as write_shards
from .samplers.endless_sampler import EndlessSampler as EndlessSampler
from .samplers.epoch_sampler import EpochSampler as EpochSampler
from .samplers.sample_index import SampleIndex as SampleIndex
from .samplers.shard_sampler import ShardSampler as ShardSampler
from .sources.few_shot import FewShot as FewShot
from .sources.image_folder import UnlabelledImages as UnlabelledImages
from .sources.image_text_list import ImageTextList as ImageTextList
from .sources.image_text_shards import ImageTextShards as ImageTextShards
from .sources.labelled_images import LabelledImages as LabelledImages
from .sources.mixture import SourceMixture as SourceMixture
from .sources.sample_source import SampleSource as SampleSource
from .sources.scene_images import SceneImages as SceneImages
from .transforms.block_mask import BlockwiseMask as BlockwiseMask
from .transforms.decode_image import UnreadableImageError as UnreadableImageError
from .transforms.fast_crop import FastCrop as FastCrop
from .transforms.load_image_from_file import LoadImageFromFile as LoadImageFromFile
from .transforms.load_rgb_image import LoadRGBImage as LoadRGBImage
from .transforms.pack import PackMaskedInputs as PackMaskedInputs
from .transforms.random_mask import RandomMask as RandomMask
from .transforms.tokenize_caption import TokenizeCaption as TokenizeCaption
