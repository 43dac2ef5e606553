"""Numbers out of a model."""

from ..models.linear_probe_head import LinearProbeHead as LinearProbeHead
from .alignment import Alignment as Alignment
from .attribute_accuracy import AttributeAccuracy as AttributeAccuracy
from .base_to_new import BaseToNew as BaseToNew
from .evaluator import Evaluator as Evaluator
from .knn import KNN as KNN
from .linear_probe_accuracy import LinearProbeAccuracy as LinearProbeAccuracy
from .metric_evaluator import MetricEvaluator as MetricEvaluator
from .online_probe import OnlineProbe as OnlineProbe
from .open_vocabulary import OpenVocabulary as OpenVocabulary
from .speaking_evaluator import SpeakingEvaluator as SpeakingEvaluator
from .target_cosine import TargetCosine as TargetCosine
from .zero_shot import ZeroShot as ZeroShot
