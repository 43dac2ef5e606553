"""Numbers out of a model."""

from ..models.linear_probe_head import LinearProbeHead as LinearProbeHead
from .attribute_accuracy import AttributeAccuracy as AttributeAccuracy
from .evaluator import Evaluator as Evaluator
from .knn import KNN as KNN
from .linear_probe_accuracy import LinearProbeAccuracy as LinearProbeAccuracy
from .metric_evaluator import MetricEvaluator as MetricEvaluator
from .target_cosine import TargetCosine as TargetCosine
