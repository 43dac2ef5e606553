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
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.runner.base_loop import BaseLoop
from torch.utils.data import BatchSampler, IterableDataset

from ..distributed.collectives import all_gather
from ..optim.bad_batch import keep_bad_batch, sample_names

DIFFERENT_DRAWS = 'draws such as drop path differ from those of a run that was never stopped'


def random_state() -> dict:
    """Return the state of this process's random generators as tensors and numbers."""
    numpy = np.random.get_state(legacy=False)
    assert isinstance(numpy, dict)
    version, values, gauss = random.getstate()
    state = dict(
        torch=torch.get_rng_state(),
        numpy=torch.from_numpy(numpy['state']['key'].astype(np.int64)),
        numpy_rest=[numpy['state']['pos'], numpy['has_gauss'], numpy['gauss']],
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

    Checkpoints hold the random state of every process (:meth:`restart_state`). A resumed loop starts with the
    next batch, without loading earlier ones, and restores the random states there. A validation leaves the
    random state of the training unchanged, and one that was cut off is done again.

    Samples do not depend on the number of workers where their draws come from their index
    (:class:`EpochSampler`, :class:`EndlessSampler`).
    """

    _iter: int
    val_begin: int
    val_interval: int
    _samples_of_step: tuple[str, ...] = ()
    _restart: dict | None = None
    _state_before_validation: dict | None = None

    def run_iter(self, *args: Any) -> None:
        """Train on a batch, the last argument; save it if a step with it fails for good."""
        batch = args[-1]
        try:
            super().run_iter(*args)
        except FloatingPointError as error:
            names = [*self._samples_of_step, *sample_names(batch)]
            kept = keep_bad_batch(self.runner, batch, names, str(error))
            raise FloatingPointError(f'{error} {kept}') from error
        done = at_step_boundary(self.runner)
        self._samples_of_step = () if done else (*self._samples_of_step, *sample_names(batch))

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
        """Take the result of :meth:`restart_state`; None for a checkpoint of another program.

        Raises:
            ValueError: If an iteration has another number of images now: the schedule would be wrong.
        """
        if state is None:
            print_log(f'The checkpoint holds no random states: {DIFFERENT_DRAWS}', 'current')
            return
        saved, lengths = state['images_per_iteration'], self._lengths()
        if saved != lengths['images_per_iteration']:
            fitting, rest = divmod(saved or 0, get_world_size())
            advice = f' (train_dataloader.batch_size={fitting} keeps them)' if fitting and not rest else ''
            raise ValueError(
                f'this run has iterations of {lengths["images_per_iteration"]} images, and the checkpoint is '
                f'of one with {saved}: its iterations and its schedule would be counted wrongly. Use as many '
                f'processes and images a process as before{advice}, or begin a new run from its weights with '
                '--cfg-options load_from=FILE'
            )
        if state['images'] != lengths['images']:
            _warn(
                f'There are {lengths["images"]} training images now and {state["images"]} in the checkpoint: '
                'the order of the images differs'
            )
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
                _warn(f'{name} cannot begin in the middle: {start} batches are loaded and skipped')
                for _ in range(start):
                    next(iterator)
            set_random_state(state)
            self._restore_random_state()
            yield from iterator
        finally:
            if can_skip:
                batches.sampler = sampler

    def _restore_random_state(self) -> None:
        if self._restart is None:
            return
        states, self._restart = self._restart['random_states'], None
        if len(states) == get_world_size():
            set_random_state(states[get_rank()])
        else:
            _warn(
                f'The checkpoint holds the random states of {len(states)} processes, and there are '
                f'{get_world_size()}: {DIFFERENT_DRAWS}'
            )

    def _make_up_validation(self, count: int, last: int) -> None:
        """Validate first if the run was stopped between a checkpoint and the end of its validation."""
        done = self.runner.message_hub.get_info('iter_of_validation', None)
        if self._iter > 0 and done != self._iter:
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


def _warn(text: str) -> None:
    print_log(text, 'current', logging.WARNING)
