"""Accuracy of every classifier of a linear probe, and the best of them."""

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmpretrain.registry import METRICS


@METRICS.register_module()
class LinearProbeAccuracy(BaseMetric):
    """Top-1 and top-5 accuracy of :class:`LinearProbeHead`'s classifiers, in percent.

    Reported: ``top1`` and ``top5`` of the classifier with the best top-1 (BEiT reports its best block
    the same way), which one it is (``best_block``, ``best_lr_multiplier``), and every classifier's top-1
    as ``top1_block<b>_x<multiplier>``. A table of them is logged. There is no ``top5`` where the head ranks
    one class only, because there are no more than five. The default ``prefix`` is ``'linear_probe'``.
    """

    default_prefix = 'linear_probe'
    blocks: tuple[int, ...]
    lr_multipliers: tuple[float, ...]
    with_top5: bool

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Note for each image which classifiers are right: ``(top-1 and top-5, blocks, rates)``."""
        for sample in data_samples:
            self.blocks, self.lr_multipliers = sample['probe_blocks'], sample['probe_lr_multipliers']
            ranked = sample['probe_labels'].cpu()
            self.with_top5 = ranked.shape[-1] > 1
            hits = ranked == sample['gt_label'].cpu()
            # one entry an image: MMEngine cuts off what the sampler repeated to even the ranks
            self.results.append(np.stack([hits[..., 0].numpy(), hits.any(dim=-1).numpy()]))

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Return the figures over all images of all processes."""
        top1, top5 = 100 * np.mean(results, axis=0)
        block, rate = np.unravel_index(top1.argmax(), top1.shape)
        figures = dict(top1=float(top1[block, rate]))
        if self.with_top5:
            figures['top5'] = float(top5[block, rate])
        figures |= dict(best_block=self.blocks[block], best_lr_multiplier=self.lr_multipliers[rate])
        for row, number in enumerate(self.blocks):
            for column, factor in enumerate(self.lr_multipliers):
                figures[f'top1_block{number}_x{factor:g}'] = float(top1[row, column])
        print_log(self.table(top1), 'current')
        return figures

    def table(self, top1: np.ndarray) -> str:
        """Format top-1 in percent ``(blocks, rates)`` as text, a row for each block."""
        lines = ['Linear probe, top-1 (%); columns: multiples of the learning rate']
        lines.append('block' + ''.join(f'{f"x{factor:g}":>9}' for factor in self.lr_multipliers))
        for number, row in zip(self.blocks, top1, strict=True):
            lines.append(f'{number:>5}' + ''.join(f'{value:9.2f}' for value in row))
        return '\n'.join(lines)
