"""MMEngine's metrics as one evaluator among others."""

from typing import Any

from mmengine.evaluator import Evaluator as MetricList
from mmpretrain.registry import EVALUATORS
from torch.utils.data import DataLoader

from ..engine.distributed.collectives import all_reduce
from ..engine.loops.evaluation_loop import batch_done
from .evaluator import Evaluator


@EVALUATORS.register_module()
class MetricEvaluator(Evaluator):
    """Run metrics of MMEngine, mmpretrain or mmseg on what a model predicts.

    Args:
        dataloader: The images to evaluate on.
        metrics: Config of a metric, or a list of them, as ``val_evaluator`` takes them.
        **kwargs: See :class:`Evaluator`. The default ``prefix`` is none: metrics have their own.
    """

    default_prefix = ''

    def __init__(self, dataloader: DataLoader, metrics: dict | list[dict], **kwargs: Any) -> None:
        super().__init__(dataloader, **kwargs)
        self.metrics = MetricList(metrics)
        self.dataset: Any = dataloader.dataset
        if hasattr(self.dataset, 'metainfo'):
            self.metrics.dataset_meta = self.dataset.metainfo

    def evaluate(self, model: Any) -> dict[str, float]:
        """Compute the metrics of the model's predictions."""
        common = all_reduce(len(self.dataloader), 'min')
        for number, batch in enumerate(self.dataloader, start=1):
            self.metrics.process(data_samples=model.val_step(batch), data_batch=batch)
            if number <= common:
                batch_done()
        return self.metrics.evaluate(len(self.dataset))
