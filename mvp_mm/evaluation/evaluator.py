"""The base class of evaluators."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.model import is_model_wrapper
from torch import nn
from torch.utils.data import DataLoader


class Evaluator(ABC):
    """Compute numbers from a model, on data of its own and at an interval of its own.

    A config names any number of them::

        evaluators = [dict(type='TargetCosine', dataloader=dict(...)), dict(type='KNN', interval=10, ...)]

    :class:`~mvp_mm.engine.EvaluatorLoop` builds and runs them. To write one, subclass this, register it with
    ``mmpretrain.registry.EVALUATORS`` and implement :meth:`evaluate`.

    Args:
        dataloader: The images to evaluate on; in a config a dict, as ``val_dataloader`` is.
        interval: Evaluate every so many epochs, or iterations where the run counts those, and at the end.
            Default None: whenever ``train_cfg.val_interval`` says.
        prefix: What the logged names start with. Default None: the class's ``default_prefix``.
    """

    default_prefix: str

    def __init__(
        self, dataloader: DataLoader, interval: int | None = None, prefix: str | None = None
    ) -> None:
        if interval is not None and interval < 1:
            raise ValueError(f'{type(self).__name__}: interval={interval}: expected 1 or more, or None')
        self.dataloader = dataloader
        self.interval = interval
        self.prefix = self.default_prefix if prefix is None else prefix

    @abstractmethod
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return numbers by name, over the data of all processes.

        ``model`` is in eval mode, not wrapped by DDP, and gradients are off.
        """

    @staticmethod
    def batches(model: nn.Module, dataloader: DataLoader) -> Iterator[Mapping[str, Any]]:
        """Yield the batches of a loader as the model's preprocessor hands them to ``forward``."""
        module: Any = model.module if is_model_wrapper(model) else model
        for batch in dataloader:
            yield module.data_preprocessor(batch, False)
