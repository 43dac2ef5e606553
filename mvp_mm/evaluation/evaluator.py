"""The base class of evaluators."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_dist_info
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..datasets.samplers.sample_index import SampleIndex
from ..engine.checkpoint.exact_resume import random_state, set_random_state
from ..engine.loops.evaluation_loop import batch_done, evaluation_arithmetic


class Evaluator(ABC):
    """Compute numbers from a model, on data of its own and at an interval of its own.

    A config names any number of them::

        evaluators = [dict(type='TargetCosine', dataloader=dict(...)), dict(type='KNN', interval=10, ...)]

    :class:`~mvp_mm.engine.EvaluatorLoop` builds and runs them. To write one, subclass this, register it with
    ``mmpretrain.registry.EVALUATORS`` and implement :meth:`evaluate`. One that learns beside the run has
    ``after_train_iter(model, iteration)`` too, called after each iteration, and ``state_dict()`` and
    ``load_state_dict(state)``, plain data, which go into checkpoints.

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
        self.dataloader, self.interval = dataloader, interval
        self.prefix = self.default_prefix if prefix is None else prefix

    @abstractmethod
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return numbers by name, over the data of all processes.

        ``model`` is in eval mode, not wrapped by DDP, and gradients are off.
        """

    def require(self, model: nn.Module) -> None:
        """Raise ValueError, before a run begins, for a model that cannot be evaluated so (hook)."""
        return None

    @staticmethod
    def batches(model: nn.Module, dataloader: DataLoader) -> Iterator[Mapping[str, Any]]:
        """Yield a loader's batches as the model's preprocessor hands them to ``forward``, each image once.

        The order is the dataset's whatever the sampler, and draws of a sample derive from its index. Of
        several processes each gets some of the batches that a single one would have: more or fewer than
        others, or none (see :meth:`total`). A sharded model's processes must call it equally often, so they
        may get a last batch without images.
        """
        sampler: Any = dataloader.batch_sampler
        size, (rank, world) = len(dataloader.dataset), get_dist_info()  # type: ignore[arg-type]
        starts = range(0, size, sampler.batch_size)
        own = [range(start, min(start + sampler.batch_size, size)) for start in starts[rank::world]]
        lacks_one = is_model_wrapper(model) and len(own) < len(starts[::world])
        if lacks_one:
            own.append(range(1))
        kept = sampler.sampler, sampler.drop_last
        # in the loader itself, so that its workers live on
        sampler.sampler = [SampleIndex(index, epoch=0, seed=0) for batch in own for index in batch]
        sampler.drop_last = False
        try:
            for number, batch in enumerate(dataloader, start=1):
                batch = prepared(model, batch)
                is_empty = lacks_one and number == len(own)
                yield {name: _none_of(value) for name, value in batch.items()} if is_empty else batch
                if number <= len(starts) // world:  # which every process has
                    batch_done()
        finally:
            sampler.sampler, sampler.drop_last = kept

    @staticmethod
    def labels(batch: Mapping[str, Any]) -> Tensor:
        """Return a batch's labels ``(B,)``: its ``gt_label``, or those of its ``data_samples``."""
        if batch.get('gt_label') is not None:
            return batch['gt_label'].flatten()
        try:
            labels = [sample.gt_label for sample in batch['data_samples']]
            return torch.cat(labels) if labels else torch.empty(0, dtype=torch.long)
        except (KeyError, AttributeError, TypeError) as error:
            raise ValueError(
                'the images have no labels: expected `gt_label` in the data samples (PackInputs) or beside '
                "them (PackMaskedInputs(fields=('gt_label',))), from a dataset with labels"
            ) from error

    @staticmethod
    def total(parts: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Add up the contributions of batches, in float64, over all processes; some may have none."""
        total: dict[str, Tensor] = {}
        for part in parts:
            total = {name: value.double() + total.get(name, 0) for name, value in part.items()}
        shapes = all_gather_object({name: value.shape for name, value in total.items()})
        for name, shape in next(filter(None, shapes), {}).items():
            all_reduce(total.setdefault(name, torch.zeros(shape, dtype=torch.float64)))
        return total


def prepared(model: nn.Module, batch: Any) -> dict[str, Any]:
    """Return a loader's batch as the model's preprocessor hands it to ``forward``."""
    module: Any = model.module if is_model_wrapper(model) else model
    return module.data_preprocessor(batch, False)


def _none_of(value: Any) -> Any:
    return value[:0] if isinstance(value, Tensor | list | tuple) else value


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluate amid training, without gradients; afterwards restore all modules' modes and random states."""
    modes, state = [(module, module.training) for module in model.modules()], random_state()
    try:
        model.eval()
        with torch.no_grad(), evaluation_arithmetic():
            yield
    finally:
        for module, training in modes:
            module.training = training
        set_random_state(state)
