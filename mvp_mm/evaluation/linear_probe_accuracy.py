"""Accuracy of every classifier of a linear probe, and the best of them."""

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmpretrain.registry import METRICS
from mmpretrain.structures import DataSample


@METRICS.register_module()
class LinearProbeAccuracy(BaseMetric):
    """Top-1 and top-5 accuracy of :class:`LinearProbeHead`'s classifiers, in percent.

    Reported: ``top1`` and ``top5`` of the classifier with the best top-1 (BEiT reports its best block
    the same way), which one it is (``best_block``, ``best_lr_multiplier``), and every classifier's top-1
    as ``top1_block<b>_x<multiplier>``. A table of them is logged. There is no ``top5`` where the head ranks
    one class only, because there are no more than five.

    Args:
        collect_device: Where results of several processes are gathered. Default ``'cpu'``.
        prefix: Prefix of the reported names. Default ``'linear_probe'``.
    """

    default_prefix = 'linear_probe'

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.blocks: tuple[int, ...] = ()
        self.lr_multipliers: tuple[float, ...] = ()
        self.with_top5 = True

    def process(self, data_batch: dict, data_samples: Sequence[DataSample | dict]) -> None:
        """Note for each image which classifiers are right: ``(top-1 and top-5, blocks, rates)``."""
        for sample in data_samples:
            fields = sample if isinstance(sample, dict) else sample.to_dict()
            self.blocks = tuple(fields['probe_blocks'])
            self.lr_multipliers = tuple(fields['probe_lr_multipliers'])
            self.with_top5 = fields['probe_labels'].shape[-1] > 1
            hits = (fields['probe_labels'] == fields['gt_label'].to(fields['probe_labels'].device)).cpu()
            # one entry an image: MMEngine cuts off what the sampler repeated to even the ranks
            self.results.append(np.stack([hits[..., 0].numpy(), hits.any(dim=-1).numpy()]))

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """The figures over all images of all processes."""
        top1, top5 = 100 * np.mean(results, axis=0)
        block, rate = np.unravel_index(top1.argmax(), top1.shape)
        figures = dict(
            top1=float(top1[block, rate]),
            **(dict(top5=float(top5[block, rate])) if self.with_top5 else {}),
            best_block=self.blocks[block],
            best_lr_multiplier=self.lr_multipliers[rate],
        )
        for row, number in enumerate(self.blocks):
            for column, factor in enumerate(self.lr_multipliers):
                figures[f'top1_block{number}_x{factor:g}'] = float(top1[row, column])
        print_log(self.table(top1), 'current')
        return figures

    def table(self, top1: np.ndarray) -> str:
        """Top-1 in percent ``(blocks, rates)`` as text, a row for each block."""
        lines = ['Linear probe, top-1 (%); columns: multiples of the learning rate']
        lines.append('block' + ''.join(f'{f"x{factor:g}":>9}' for factor in self.lr_multipliers))
        for number, row in zip(self.blocks, top1, strict=True):
            lines.append(f'{number:>5}' + ''.join(f'{value:9.2f}' for value in row))
        return '\n'.join(lines)
