"""Go on from a checkpoint as if the run had never been stopped: the part that both training loops share."""

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
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from ..distributed.collectives import all_gather
from ..optim.bad_batch import keep_bad_batch, sample_names


def random_state() -> dict:
    """The state of this process's generators, as plain data.

    Returns:
        A tensor each for ``torch`` and, on a GPU, ``cuda`` (uint8), ``numpy`` and ``python`` (int64);
        ``numpy_rest`` and ``python_rest`` hold the numbers beside the tables of the last two.
    """
    _, table, *numpy_rest = np.random.get_state()
    version, values, gauss = random.getstate()
    state = dict(
        torch=torch.get_rng_state(),
        numpy=torch.from_numpy(table.astype(np.int64)),
        numpy_rest=list(numpy_rest),
        python=torch.tensor(values),
        python_rest=[version, gauss],
    )
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict) -> None:
    """Bring this process's generators into a state that :func:`random_state` gave."""
    torch.set_rng_state(state['torch'].cpu())
    np.random.set_state(('MT19937', state['numpy'].cpu().numpy().astype(np.uint32), *state['numpy_rest']))
    version, gauss = state['python_rest']
    random.setstate((version, tuple(state['python'].tolist()), gauss))
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def at_step_boundary(runner: Runner) -> bool:
    """Whether the iteration that has just been trained ended with an optimiser step."""
    wrapper = runner.optim_wrapper
    return not isinstance(wrapper, OptimWrapper) or wrapper.should_update()


class _Rest:
    """A sampler without its first indices; its length stays, for those who count the batches of an epoch."""

    def __init__(self, sampler: Any, start: int) -> None:
        self.sampler = sampler
        self.start = start

    def __iter__(self) -> Iterator:
        return islice(iter(self.sampler), self.start, None)

    def __len__(self) -> int:
        return len(self.sampler)


class ExactResume:
    """What a training loop needs so that a restart changes nothing.

    A checkpoint holds, beside MMEngine's, the random state of every process (:meth:`restart_state`). A
    resumed loop begins with the batch after the last one that was trained on, without loading those before
    it, and puts the random states back at that very place. A validation leaves the random state of the
    training as it was, and one that was due when the run stopped is made up for.

    Samples are the same for any number of workers where their draws come from their index
    (:class:`EpochSampler`, :class:`EndlessSampler`); those of other samplers draw from the state of the
    process that reads them.
    """

    _samples_of_step: tuple[str, ...] = ()
    _restart: dict | None = None
    _state_before_validation: dict | None = None

    def run_iter(self, *args: Any) -> None:
        """Train on a batch, the last argument; if no step can be made of it any more, keep it."""
        batch = args[-1]
        try:
            super().run_iter(*args)
        except FloatingPointError as error:
            names = [*self._samples_of_step, *sample_names(batch)]
            kept = keep_bad_batch(self.runner, batch, names, str(error))
            raise FloatingPointError(f'{error} {kept}') from error
        if at_step_boundary(self.runner):
            self._samples_of_step = ()
        else:
            self._samples_of_step += tuple(sample_names(batch))

    def restart_state(self) -> dict:
        """What a checkpoint needs beside MMEngine's; called by all processes together."""
        mine = self._state_before_validation or random_state()
        wrapper = self.runner.optim_wrapper
        return dict(
            self._lengths(),
            optimizer=type(wrapper.optimizer).__name__ if isinstance(wrapper, OptimWrapper) else None,
            precision=getattr(wrapper, 'precision', None),
            random_states=all_gather(mine),
        )

    def prepare_restart(self, state: dict | None) -> None:
        """Take what :meth:`restart_state` gave, before the loop runs.

        Args:
            state: None for a checkpoint that was not written by this package: the random states are then
                those of a new run.

        Raises:
            ValueError: If iterations have another size now, so that schedule and counters would be wrong.
        """
        if state is None:
            print_log(
                'The checkpoint holds no random states: draws such as drop path differ from those of a run '
                'that was never stopped',
                'current',
            )
            return
        saved, now = state['images_per_iteration'], self._lengths()['images_per_iteration']
        if saved != now:
            fitting, rest = divmod(saved or 0, get_world_size())
            advice = f' (train_dataloader.batch_size={fitting} keeps them)' if fitting and not rest else ''
            raise ValueError(
                f'this run has iterations of {now} images, and the checkpoint is of one with {saved}: its '
                'iterations and its schedule would be counted wrongly. Use as many processes and images a '
                f'process as before{advice}, or begin a new run from its weights with --cfg-options '
                'load_from=FILE'
            )
        if state['images'] != self._lengths()['images']:
            print_log(
                f'There are {self._lengths()["images"]} training images, and there were {state["images"]} '
                'when the checkpoint was written: the order of the images is another one now',
                'current',
                level=30,
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
        """The loader's batches from a position on; the random state is put back if the run was resumed."""
        loader, batches = self.dataloader, self.dataloader.batch_sampler
        # others may use a sampler in ways of their own
        can_skip = type(batches) is BatchSampler and not isinstance(loader.dataset, IterableDataset)
        sampler = batches.sampler if can_skip else None
        try:
            if start and can_skip:
                batches.sampler = _Rest(sampler, start * batches.batch_size)
            # A loader draws a number when it begins, or does not: that depends on its workers.
            state = random_state()
            iterator = iter(loader)
            if start and not can_skip:
                _pass_over(iterator, start, loader)
            set_random_state(state)
            self._put_back()
            yield from iterator
        finally:
            if can_skip:
                batches.sampler = sampler

    def _put_back(self) -> None:
        if self._restart is None:
            return
        states, self._restart = self._restart['random_states'], None
        if len(states) == get_world_size():
            set_random_state(states[get_rank()])
        else:
            print_log(
                f'The checkpoint holds the random states of {len(states)} processes, and there are '
                f'{get_world_size()}: draws such as drop path differ from those of a run that was never '
                'stopped',
                'current',
                level=30,
            )

    def _make_up_validation(self, count: int, last: int) -> None:
        """Validate before going on, if a run stopped between its checkpoint and the end of the validation."""
        hub = self.runner.message_hub
        if self._iter > 0 and hub.get_info('iter_of_validation', None) != self._iter:
            self._validate_if_due(count, last)

    def _validate_if_due(self, count: int, last: int) -> None:
        """Validate after so many epochs or iterations of ``last``, if the config says so."""
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


def _pass_over(iterator: Iterator, batches: int, loader: DataLoader) -> None:
    print_log(
        f'{type(loader.batch_sampler or loader.sampler).__name__} cannot begin in the middle: '
        f'{batches} batches are loaded and passed over',
        'current',
        level=30,
    )
    for _ in range(batches):
        next(iterator)
