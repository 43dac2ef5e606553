"""Fixtures of the tests of RILS."""

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from test_models.test_rils.tiny_rils import rils_config, write_text_config


@pytest.fixture
def text_config(tmp_path):
    return write_text_config(tmp_path)


@pytest.fixture
def build(text_config):
    """Builds a RILS, or another model of its arguments, from the same random numbers."""

    def built(**changes):
        torch.manual_seed(0)
        return MODELS.build(rils_config(text_config, **changes))

    return built


@pytest.fixture
def numbers(reference):
    """The reference losses, by name."""
    with np.load(reference / 'rils_loss.npz') as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}
