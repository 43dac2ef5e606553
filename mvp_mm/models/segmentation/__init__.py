"""What segmentation configs need of mmseg: imported by them, so that ``import mvp_mm`` stays cheap."""

from .packed_seg_preprocessor import PackedSegPreprocessor
from .windowed_encoder_decoder import WindowedEncoderDecoder

__all__ = ['PackedSegPreprocessor', 'WindowedEncoderDecoder']
