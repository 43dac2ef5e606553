"""What segmentation configs need of mmseg: imported by them, so that ``import mvp_mm`` stays cheap."""

from .packed_seg_preprocessor import PackedSegPreprocessor as PackedSegPreprocessor
from .windowed_encoder_decoder import WindowedEncoderDecoder as WindowedEncoderDecoder
