"""Accuracy of several attributes at once, such as the zero-shot shape and colour of a scene."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS


@METRICS.register_module()
class AttributeAccuracy(BaseMetric):
    """Share of images whose best score is that of the right class, in percent, for each attribute.

    Args:
        attributes: Names; a sample has ``<name>_scores`` and the right class in ``<name>``.
        **kwargs: Of MMEngine's ``BaseMetric``. The default ``prefix`` is ``'zero_shot'``.
    """

    default_prefix = 'zero_shot'

    def __init__(self, attributes: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attributes = tuple(attributes)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Judge a batch."""
        for sample in data_samples:
            scores = {name: sample[f'{name}_scores'] for name in self.attributes}
            self.results.append([int(scores[name].argmax()) == int(sample[name]) for name in scores])

    def compute_metrics(self, results: list[list[bool]]) -> dict[str, float]:
        """Percent right of all processes' images."""
        return dict(zip(self.attributes, (100 * np.mean(results, axis=0)).tolist(), strict=True))
