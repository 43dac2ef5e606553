from typing import Any

from mmengine.dist import get_world_size
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from ...wording import counted
from ..checkpoint.exact_resume import ExactResume


@LOOPS.register_module()
class ExactEpochLoop(ExactResume, EpochBasedTrainLoop):
    """MMEngine's ``EpochBasedTrainLoop``, resumed in the middle of an epoch, for :class:`MVPRunner`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if len(self.dataloader) == 0:
            raise ValueError(
                f'{len(self.dataloader.dataset)} images do not fill one iteration of '
                f'{counted(get_world_size(), "process", "processes")} x {self.dataloader.batch_size} images '
                '(the last partial batch is dropped): lower train_dataloader.batch_size'
            )

    def run(self) -> nn.Module:
        self.runner.call_hook('before_train')
        if self._position() == 0:
            self._make_up_validation(self._epoch, self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate_if_due(self._epoch, self._max_epochs)
        self.runner.call_hook('after_train')
        return self.runner.model

    def prepare_restart(self, state: dict | None) -> None:
        """Convert the saved position: after epochs of another length, to the beginning of the next one."""
        super().prepare_restart(state)
        length = len(self.dataloader)
        before = (state or {}).get('iterations_per_epoch', length)
        if before is None:
            self._epoch = self._iter // length
        elif before != length:
            self._iter = self._epoch * length

    def run_epoch(self) -> None:
        """Train for an epoch, or for the rest of one."""
        start = self._position()
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for index, batch in enumerate(self._batches(start), start):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _position(self) -> int:
        """Return how many iterations of this epoch are done."""
        done = self._iter - self._epoch * len(self.dataloader)
        if 0 <= done <= len(self.dataloader):
            return done
        self.runner.logger.warning(
            f'{self._iter} iterations are not {self._epoch} epochs of {len(self.dataloader)} and a part of '
            'another: the epoch is begun anew'
        )
        return 0
