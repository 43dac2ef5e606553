"""Numbers out of a model."""

from ..models.linear_probe_head import LinearProbeHead
from .attribute_accuracy import AttributeAccuracy
from .linear_probe_accuracy import LinearProbeAccuracy
from .target_cosine import TargetCosine

__all__ = ['AttributeAccuracy', 'LinearProbeAccuracy', 'LinearProbeHead', 'TargetCosine']
