"""Where the randomness of a training sample comes from: (seed, epoch, index) and nothing else."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch


class SampleIndex(int):
    """A dataset index that carries the epoch and the seed to the worker that reads the sample.

    An ``int`` in every other respect, so datasets and loaders take it as one. Workers that outlive an
    epoch learn the epoch from it, and nothing about a sample depends on which worker reads it.

    Args:
        index: Position in the dataset.
        epoch: Epoch, from 0.
        seed: The run's seed.
    """

    def __new__(cls, index: int, epoch: int, seed: int) -> 'SampleIndex':
        self = super().__new__(cls, index)
        self.epoch = epoch
        self.seed = seed
        return self

    def __reduce__(self) -> tuple:
        return SampleIndex, (int(self), self.epoch, self.seed)


@contextmanager
def seeded_draws(*entropy: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generators for a block, then put them back as they were.

    Transforms of any library draw from one of these three, so all of them become functions of
    ``entropy``; and the training process, which may read samples itself, keeps its own random state.

    Args:
        entropy: Non-negative integers.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seeds = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])
    torch.default_generator.manual_seed(int(seeds[2]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def sample_draws(index: int, fixed: bool = False) -> AbstractContextManager[None]:
    """The draws of one sample: seeded by its :class:`SampleIndex`, or the process's own for a plain integer.

    Args:
        index: Index that the dataset was asked for.
        fixed: The same draws in every epoch, for a plain integer too. Default False.
    """
    if isinstance(index, SampleIndex):
        return seeded_draws(index.seed, 0 if fixed else index.epoch, int(index))
    return seeded_draws(0, 0, int(index)) if fixed else nullcontext()
