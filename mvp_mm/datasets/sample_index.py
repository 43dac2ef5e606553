"""Where the randomness of a training sample comes from: (seed, epoch, index) and nothing else."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

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
