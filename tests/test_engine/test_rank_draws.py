"""Each process draws its own drop paths and mixtures, from weights that are the same."""

import random

import numpy as np
import torch
from exact_runs import Watch, build
from mmcv.cnn.bricks import DropPath
from torchrun_jobs import forked

from mvp_mm.engine import mvp_runner


def drawn(folder, launcher):
    """What a process draws once its model is initialised."""
    runner = build(folder, Watch(), launcher=launcher, seed=3)
    runner._init_model_weights()
    weights = sum(value.double().sum().item() for value in runner.model.state_dict().values())
    dropped = DropPath(0.5).train()(torch.ones(24, 1, 1)).flatten().bool().tolist()
    return weights, [dropped, np.random.rand(), random.random()]


def test_two_processes(tmp_path):
    (alone,) = forked(drawn, tmp_path / 'a', 'none', processes=1)
    first, second = forked(drawn, tmp_path / 'b', 'pytorch')
    assert alone == first
    assert first[0] == second[0]  # the weights
    assert all(mine != other for mine, other in zip(first[1], second[1], strict=True))


def test_one_process_draws_as_before(tmp_path, monkeypatch):
    """Nothing is seeded anew, so that results of one process are what they were."""
    runner = build(tmp_path, Watch())
    monkeypatch.delattr(mvp_runner, 'set_random_seed')
    runner._init_model_weights()
