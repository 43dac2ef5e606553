"""Where the randomness of a training sample comes from: (seed, epoch, index) and nothing else."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.random import MT19937
from numpy.random.mtrand import get_bit_generator, set_bit_generator

# Lent to NumPy for the length of a block; one is enough unless blocks are nested.
_spare_generators: list[MT19937] = []


class SampleIndex(int):
    """A dataset index that carries the epoch and the seed to the worker that reads the sample.

    Workers that outlive an epoch learn the epoch from it, so no sample depends on which worker reads it.
    """

    epoch: int
    seed: int

    def __new__(cls, index: int, epoch: int, seed: int) -> 'SampleIndex':
        self = super().__new__(cls, index)
        self.epoch, self.seed = epoch, seed
        return self

    def __reduce__(self) -> tuple:
        return SampleIndex, (int(self), self.epoch, self.seed)


def sample_entropy(index: int, fixed: bool = False) -> tuple[int, ...]:
    """Return what seeds a sample's draws in :func:`seeded_draws`: ``(seed, epoch, index)``.

    For a plain integer it is ``()``: draw from the process's random state. With ``fixed`` the draws are the
    same in every epoch, and for a plain integer too.
    """
    if isinstance(index, SampleIndex):
        return index.seed, 0 if fixed else index.epoch, int(index)
    return (0, 0, int(index)) if fixed else ()


@contextmanager
def seeded_draws(*entropy: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generators for a block, then restore them.

    Transforms of any library draw from one of these three, so all become functions of ``entropy``,
    non-negative integers (none at all: nothing is seeded); a training process that reads samples itself keeps
    its random state, but for the second normal value that ``np.random.randn`` may hold in store.
    """
    if not entropy:
        yield
        return
    python_state, torch_state = random.getstate(), torch.get_rng_state()
    # Swap NumPy's generator: reading and writing back its state takes 30 times as long.
    numpy_generator = get_bit_generator()
    generator = _spare_generators.pop() if _spare_generators else MT19937(0)
    seeds = np.random.SeedSequence(entropy).generate_state(3)
    set_bit_generator(generator)
    try:
        random.seed(int(seeds[0]))
        np.random.seed(seeds[1])
        torch.default_generator.manual_seed(int(seeds[2]))
        yield
    finally:
        set_bit_generator(numpy_generator)
        _spare_generators.append(generator)
        random.setstate(python_state)
        torch.set_rng_state(torch_state)
