"""Teachers: what the student learns to predict."""

from .base import TargetGenerator
from .clip import CLIPTargetGenerator
from .pixels import PixelTargetGenerator
from .timm import TimmTargetGenerator

__all__ = ['CLIPTargetGenerator', 'PixelTargetGenerator', 'TargetGenerator', 'TimmTargetGenerator']
