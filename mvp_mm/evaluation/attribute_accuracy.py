"""Accuracy of several attributes at once, such as the zero-shot shape and colour of a scene."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS
from mmpretrain.structures import DataSample


@METRICS.register_module()
class AttributeAccuracy(BaseMetric):
    """Share of images whose best score is that of the right class, in percent, for each attribute.

    Args:
        attributes: Names; a sample has ``<name>_scores`` and the right class in ``<name>``.
        collect_device: Where results of several processes are gathered. Default ``'cpu'``.
        prefix: Prefix of the reported names. Default ``'zero_shot'``.
    """

    default_prefix = 'zero_shot'

    def __init__(
        self, attributes: Sequence[str], collect_device: str = 'cpu', prefix: str | None = None
    ) -> None:
        super().__init__(collect_device, prefix)
        self.attributes = tuple(attributes)

    def process(self, data_batch: dict, data_samples: Sequence[DataSample | dict]) -> None:
        """Judge a batch."""
        for sample in data_samples:
            self.results.append(
                {name: int(sample[f'{name}_scores'].argmax()) == sample[name] for name in self.attributes}
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Percent right of all processes' images."""
        return {
            name: 100 * torch.tensor([result[name] for result in results]).double().mean().item()
            for name in self.attributes
        }
