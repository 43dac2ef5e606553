"""Teachers: what the student learns to predict."""

from .base import TargetGenerator
from .clip import CLIPTargetGenerator
from .timm import TimmTargetGenerator

__all__ = ['CLIPTargetGenerator', 'TargetGenerator', 'TimmTargetGenerator']
