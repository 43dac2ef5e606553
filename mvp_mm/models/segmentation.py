"""What segmentation configs need of mmseg: imported by them, so that ``import mvp_mm`` stays cheap."""

from .windowed_encoder_decoder import WindowedEncoderDecoder

__all__ = ['WindowedEncoderDecoder']
