"""Where the randomness of a training sample comes from: (seed, epoch, index) and nothing else."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from numpy.random import MT19937

# Lent to NumPy for the length of a block; one is enough unless blocks are nested.
_spare_generators: list[MT19937] = []


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
    ``entropy``; and the training process, which may read samples itself, keeps its own random state
    (but for the second normal value that ``np.random.randn`` may have in store).

    Args:
        entropy: Non-negative integers.
    """
    python_state, torch_state = random.getstate(), torch.get_rng_state()
    # Another generator in NumPy's place: reading and writing back its state takes 30 times as long.
    numpy_generator = np.random.get_bit_generator()
    generator = _spare_generators.pop() if _spare_generators else MT19937(0)
    seeds = np.random.SeedSequence(entropy).generate_state(3)
    np.random.set_bit_generator(generator)
    try:
        random.seed(int(seeds[0]))
        np.random.seed(seeds[1])
        torch.default_generator.manual_seed(int(seeds[2]))
        yield
    finally:
        np.random.set_bit_generator(numpy_generator)
        _spare_generators.append(generator)
        random.setstate(python_state)
        torch.set_rng_state(torch_state)


def sample_draws(index: int, fixed: bool = False) -> AbstractContextManager[None]:
    """The draws of one sample: seeded by its :class:`SampleIndex`, or the process's own for a plain integer.

    Args:
        index: Index that the dataset was asked for.
        fixed: The same draws in every epoch, for a plain integer too. Default False.
    """
    if isinstance(index, SampleIndex):
        return seeded_draws(index.seed, 0 if fixed else index.epoch, int(index))
    return seeded_draws(0, 0, int(index)) if fixed else nullcontext()
