"""An index that carries what seeds the draws of its sample."""

import pickle
import random

import numpy as np
import pytest
import torch

from mvp_mm.datasets import SampleIndex
from mvp_mm.datasets.samplers.sample_index import sample_entropy, seeded_draws


def test_sample_index():
    index = SampleIndex(5, epoch=2, seed=9)
    assert index == 5
    assert [10, 11, 12, 13, 14, 15][index] == 15
    again = pickle.loads(pickle.dumps([index]))[0]
    assert type(again) is SampleIndex
    assert (int(again), again.epoch, again.seed) == (5, 2, 9)


def draws():
    return random.random(), np.random.rand(), torch.rand(1).item()


def states():
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()


def test_entropy():
    index = SampleIndex(5, epoch=2, seed=9)
    assert sample_entropy(index) == (9, 2, 5)
    assert sample_entropy(index, fixed=True) == (9, 0, 5)
    assert sample_entropy(5) == () and sample_entropy(5, fixed=True) == (0, 0, 5)


def test_draws_are_seeded_and_the_callers_state_is_restored():
    random.seed(11), np.random.seed(11), torch.manual_seed(11)
    for _ in range(2):
        before = states()
        with seeded_draws(1, 2, 3):
            first = draws()
            with seeded_draws(4):
                assert draws() != first
        with pytest.raises(ZeroDivisionError), seeded_draws(1, 2, 3):
            assert draws() == first
            raise ZeroDivisionError
        assert states() == before
        draws()
    with seeded_draws():
        expected = draws()
    random.seed(11), np.random.seed(11), torch.manual_seed(11)
    draws(), draws()
    assert draws() == expected
