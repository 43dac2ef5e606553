"""Numbers out of a model."""

from .linear_probe_accuracy import LinearProbeAccuracy
from .linear_probe_head import LinearProbeHead
from .target_cosine import TargetCosine

__all__ = ['LinearProbeAccuracy', 'LinearProbeHead', 'TargetCosine']
