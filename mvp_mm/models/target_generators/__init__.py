"""Teachers: what the student learns to predict."""

from .base import TargetGenerator as TargetGenerator
from .clip import CLIPTargetGenerator as CLIPTargetGenerator
from .pixels import PixelTargetGenerator as PixelTargetGenerator
from .target_generators import TargetGenerators as TargetGenerators
from .timm import TimmTargetGenerator as TimmTargetGenerator
from .transformers import TransformersTargetGenerator as TransformersTargetGenerator
