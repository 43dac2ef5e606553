"""Accuracy on the classes that prompts were learnt with, and on new ones."""

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS
from torch import Tensor

from ..models.prompts.base_to_new import classes_of, harmonic_mean


@METRICS.register_module()
class BaseToNew(BaseMetric):
    """Top-1 accuracy among the base classes and among the new ones, and their harmonic mean, in percent.

    An image is classified among the classes of its own half (CoCoOp §4.1). Reported: ``base``, ``new``,
    ``H``; and ``all``, top-1 of all images among all classes, which the protocol does not ask for. The
    default ``prefix`` is ``'base_to_new'``.

    Each sample has ``pred_score`` ``(K,)``, whose order alone counts, and ``gt_label``.

    Raises:
        ValueError: If there is no image of one of the halves.
    """

    default_prefix = 'base_to_new'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Judge a batch: for each image its half, and whether it is right there and among all classes."""
        for sample in data_samples:
            scores: Tensor = sample['pred_score']
            label = int(sample['gt_label'])
            name = 'base' if label in classes_of('base', len(scores)) else 'new'
            half = classes_of(name, len(scores))
            right = int(scores[half.start : half.stop].argmax()) + half.start == label
            self.results.append((name, right, int(scores.argmax()) == label))

    def compute_metrics(self, results: list[tuple[str, bool, bool]]) -> dict[str, float]:
        """Return the figures over all images of all processes."""
        found = {}
        for name in ('base', 'new'):
            hits = [right for half, right, _ in results if half == name]
            if not hits:
                raise ValueError(f'there is no image of a {name} class: give images of all classes')
            found[name] = 100 * sum(hits) / len(hits)
        total = 100 * sum(everywhere for *_, everywhere in results) / len(results)
        return dict(found, H=harmonic_mean(**found), all=total)
