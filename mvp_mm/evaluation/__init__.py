"""Numbers out of a model."""

from ..models.linear_probe_head import LinearProbeHead
from .attribute_accuracy import AttributeAccuracy
from .evaluator import Evaluator
from .knn import KNN
from .linear_probe_accuracy import LinearProbeAccuracy
from .metric_evaluator import MetricEvaluator
from .target_cosine import TargetCosine

__all__ = [
    'KNN',
    'AttributeAccuracy',
    'Evaluator',
    'LinearProbeAccuracy',
    'LinearProbeHead',
    'MetricEvaluator',
    'TargetCosine',
]
