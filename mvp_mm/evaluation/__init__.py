"""Numbers out of a model."""

from .target_cosine import TargetCosine

__all__ = ['TargetCosine']
