"""Resume a training bit for bit: what both training loops share."""

import logging
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.base_loop import BaseLoop
from torch.utils.data import BatchSampler, IterableDataset

from ..distributed.collectives import all_gather
from ..optim.bad_batch import keep_bad_batch, sample_names

EXACT_LOOPS = {EpochBasedTrainLoop: 'ExactEpochLoop', IterBasedTrainLoop: 'ExactIterLoop'}
DIFFERENT_DRAWS = 'draws such as drop path differ from those of a run that was never stopped'


def exact_loop(loop: dict) -> dict:
    """Return a loop's config with MMEngine's two loops replaced by their exact counterparts."""
    if ('type' in loop) == ('by_epoch' in loop):
        return loop  # MMEngine refuses it
    loop = dict(loop)
    if 'by_epoch' in loop:
        loop['type'] = EpochBasedTrainLoop if loop.pop('by_epoch') else IterBasedTrainLoop
    kind = LOOPS.get(loop['type']) if isinstance(loop['type'], str) else loop['type']
    loop['type'] = EXACT_LOOPS.get(kind, loop['type'])
    return loop


def random_state() -> dict:
    """Return the state of this process's random generators as tensors and numbers."""
    numpy: Any = np.random.get_state()
    version, values, gauss = random.getstate()
    state = dict(
        torch=torch.get_rng_state(),
        numpy=torch.from_numpy(numpy[1].astype(np.int64)),
        numpy_rest=list(numpy[2:]),
        python=torch.tensor(values),
        python_rest=[version, gauss],
    )
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict) -> None:
    """Restore a state that :func:`random_state` returned."""
    torch.set_rng_state(state['torch'].cpu())
    np.random.set_state(('MT19937', state['numpy'].cpu().numpy().astype(np.uint32), *state['numpy_rest']))
    version, gauss = state['python_rest']
    random.setstate((version, tuple(state['python'].tolist()), gauss))
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def at_step_boundary(runner: Runner) -> bool:
    """Whether the current iteration ended with an optimiser step."""
    wrapper = runner.optim_wrapper
    return not isinstance(wrapper, OptimWrapper) or wrapper.should_update()


class _Rest:
    """A sampler without its first indices; its length stays that of the whole epoch."""

    def __init__(self, sampler: Any, start: int) -> None:
        self.sampler = sampler
        self.start = start

    def __iter__(self) -> Iterator:
        return islice(iter(self.sampler), self.start, None)

    def __len__(self) -> int:
        return len(self.sampler)


class ExactResume(BaseLoop):
    """Mixin of a training loop that makes a resumed run equal to one that was never stopped.

    A resumed loop starts with the next batch, without loading earlier ones, and restores every process's
    random state there. A validation leaves the random state of the training unchanged, and one that was cut
    off is done again. Samples must draw by their index, as those of this package's samplers do.
    """

    _iter: int
    _samples_of_step: tuple[str, ...] = ()
    _restart: dict | None = None
    _state_before_validation: dict | None = None

    def run_iter(self, *args: Any) -> None:
        """Train on a batch, the last argument; save it if a step with it fails for good."""
        try:
            super().run_iter(*args)
        except FloatingPointError as error:
            names = [*self._samples_of_step, *sample_names(args[-1])]
            kept = keep_bad_batch(self.runner, args[-1], names, str(error))
            raise FloatingPointError(f'{error} {kept}') from error
        done = at_step_boundary(self.runner)
        self._samples_of_step = () if done else (*self._samples_of_step, *sample_names(args[-1]))

    def restart_state(self) -> dict:
        """Return what a checkpoint needs beside MMEngine's entries; all processes call this together."""
        wrapper = self.runner.optim_wrapper
        return dict(
            self._lengths(),
            optimizer=type(wrapper.optimizer).__name__ if isinstance(wrapper, OptimWrapper) else None,
            precision=getattr(wrapper, 'precision', None),
            random_states=all_gather(self._state_before_validation or random_state()),
        )

    def prepare_restart(self, state: dict | None) -> None:
        """Take a :meth:`restart_state`, or None of another program; raise ValueError if it does not fit."""
        if state is None:
            self.runner.logger.info(f'The checkpoint holds no random states: {DIFFERENT_DRAWS}')
            return
        lengths = self._lengths()
        saved, now = state['images_per_iteration'], lengths['images_per_iteration']
        if saved != now:
            fitting, rest = divmod(saved or 0, get_world_size())
            advice = f' (train_dataloader.batch_size={fitting} keeps them)' if fitting and not rest else ''
            raise ValueError(
                f'this run has iterations of {now} images, and the checkpoint is of one with {saved}: use as '
                f'many{advice}, or begin a new run from its weights with --cfg-options load_from=FILE'
            )
        before, now = state['images'], lengths['images']
        if before != now:
            self.runner.logger.warning(f'{now} training images, not {before} as before: their order differs')
        self._restart = state

    def _lengths(self) -> dict:
        loader = self.dataloader
        size = getattr(loader.batch_sampler, 'batch_size', loader.batch_size)
        return dict(
            images_per_iteration=None if size is None else size * get_world_size(),
            images=len(loader.dataset) if hasattr(loader.dataset, '__len__') else None,
            iterations_per_epoch=len(loader) if isinstance(self, EpochBasedTrainLoop) else None,
        )

    def _batches(self, start: int = 0) -> Iterator:
        """Yield the loader's batches from ``start`` on, with the random state of a resumed run."""
        loader, batches = self.dataloader, self.dataloader.batch_sampler
        # custom batch samplers may not support skipping
        can_skip = type(batches) is BatchSampler and not isinstance(loader.dataset, IterableDataset)
        sampler = batches.sampler if can_skip else None
        try:
            if start and can_skip:
                batches.sampler = _Rest(sampler, start * batches.batch_size)
            # whether a loader draws a number when it starts depends on its workers
            state = random_state()
            iterator = iter(loader)
            if start and not can_skip:
                name = type(batches or loader.sampler).__name__
                told = f'{name} cannot begin in the middle: {start} batches are loaded and skipped'
                print_log(told, 'current', logging.WARNING)
                for _ in range(start):
                    next(iterator)
            set_random_state(state)
            if self._restart is not None:
                self._restore_random_state(self._restart['random_states'])
            yield from iterator
        finally:
            if can_skip:
                batches.sampler = sampler

    def _restore_random_state(self, states: list[dict]) -> None:
        self._restart, processes = None, get_world_size()
        if len(states) == processes:
            set_random_state(states[get_rank()])
            return
        told = f'The checkpoint holds the random states of {len(states)} processes, and there are {processes}'
        self.runner.logger.warning(f'{told}: {DIFFERENT_DRAWS}')

    def _make_up_validation(self, count: int, last: int) -> None:
        """Validate first if the run was stopped between a checkpoint and the end of its validation."""
        if self._iter not in (0, self.runner.message_hub.get_info('iter_of_validation', None)):
            self._validate_if_due(count, last)

    def _validate_if_due(self, count: int, last: int) -> None:
        """Validate after ``count`` of ``last`` epochs or iterations, if the config says so."""
        self._decide_current_val_interval()
        due = count >= self.val_begin and (count % self.val_interval == 0 or count == last)
        if self.runner.val_loop is None or not due:
            return
        self._state_before_validation = state = random_state()
        try:
            self.runner.val_loop.run()
        finally:
            self._state_before_validation = None
        set_random_state(state)
