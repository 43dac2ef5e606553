"""How well a pre-trained student predicts its teacher, and how much of that is trivial."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS
from mmpretrain.structures import DataSample


@METRICS.register_module()
class TargetCosine(BaseMetric):
    """Mean cosine between predicted and target tokens, beside two trivial predictors.

    A raw cosine flatters: tokens at one position resemble each other over all images. So the metric
    also reports what predicting each position's mean target scores (the best constant predictor:
    ``constant``), the ``excess`` over it, and what the predictions score against another image's
    targets (``shuffled``).

    Reported, each in [-1, 1] and without unit: ``cosine`` (all tokens: minus Eq. 9), ``cls``,
    ``visible``, ``masked``, ``constant``, ``excess``, ``shuffled``.

    Args:
        collect_device: Where results of several processes are gathered. Default ``'cpu'``.
        prefix: Prefix of the reported names. Default ``'target_cosine'``.
    """

    default_prefix = 'target_cosine'

    def process(self, data_batch: dict, data_samples: Sequence[DataSample | dict]) -> None:
        """Add a batch of ``MVP.predict``'s samples to the running sums."""
        fields = [sample if isinstance(sample, dict) else sample.to_dict() for sample in data_samples]
        cosines, shuffled, unit, masked = (
            torch.stack([field[key] for field in fields]).cpu().double()
            for key in ('cosines', 'shuffled_cosines', 'unit_targets', 'token_mask')
        )
        patches = cosines[:, 1:]
        batch = dict(
            images=torch.tensor(len(fields)),
            tokens=torch.tensor(cosines.shape[1]),
            cosine=cosines.mean(1).sum(),
            cls=cosines[:, 0].sum(),
            visible=(patches * (1 - masked)).sum(),
            masked=(patches * masked).sum(),
            num_masked=masked.sum(),
            shuffled=shuffled.mean(1).sum(),
            unit_targets=unit.sum(0),
        )
        if self.results:
            kept = dict(tokens=batch['tokens'])
            batch = {key: self.results[0][key] + value for key, value in batch.items()} | kept
        # One entry, whatever the number of images: their targets would not fit into memory.
        self.results[:] = [batch]

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """The figures over all images of all processes."""
        sums = {key: sum(result[key] for result in results) for key in results[0]}
        images = sums['images']
        patches = images * (results[0]['tokens'] - 1)
        cosine = sums['cosine'] / images
        # The constant vector with the best mean cosine to unit vectors has their mean's direction, and
        # that best mean cosine is the length of their mean.
        constant = (sums['unit_targets'] / images).norm(dim=-1).mean()
        figures = dict(
            cosine=cosine,
            cls=sums['cls'] / images,
            visible=sums['visible'] / (patches - sums['num_masked']),
            masked=sums['masked'] / sums['num_masked'],
            constant=constant,
            excess=cosine - constant,
            shuffled=sums['shuffled'] / images,
        )
        return {key: value.item() for key, value in figures.items()}
