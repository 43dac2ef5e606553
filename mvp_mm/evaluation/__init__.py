"""Numbers out of a model."""

from .attribute_accuracy import AttributeAccuracy
from .linear_probe_accuracy import LinearProbeAccuracy
from .linear_probe_head import LinearProbeHead
from .target_cosine import TargetCosine

__all__ = ['AttributeAccuracy', 'LinearProbeAccuracy', 'LinearProbeHead', 'TargetCosine']
