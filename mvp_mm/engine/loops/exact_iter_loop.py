from collections.abc import Iterator
from itertools import count
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from ..checkpoint.exact_resume import ExactResume


@LOOPS.register_module()
class ExactIterLoop(ExactResume, IterBasedTrainLoop):
    """MMEngine's ``IterBasedTrainLoop``, resumed with the next batch, for :class:`MVPRunner`."""

    def run(self) -> nn.Module:
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self._make_up_validation(self._iter, self._max_iters)
        batches = self._endless_batches()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(batches))
            self._validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _endless_batches(self) -> Iterator[Any]:
        """Yield the batches from this iteration on; a loader that ends begins again, as another epoch."""
        sampler = self.dataloader.sampler
        if isinstance(sampler, InfiniteSampler):
            yield from self._batches(self._iter)
        first, start = divmod(self._iter, len(self.dataloader))
        for epoch in count(first):
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)
            yield from self._batches(start)
            start = 0
