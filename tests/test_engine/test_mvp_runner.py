"""Differences of the runner from MMEngine's that have no module of their own."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from exact_runs import Watch, build
from faults.tiny_run import digest, last_checkpoint, tiny_config, write_photographs
from mmcv.cnn.bricks import DropPath
from torchrun_jobs import forked

from mvp_mm.engine import build_runner, mvp_runner


def test_two_runs_of_one_second(tmp_path, monkeypatch):
    """They share no log, and no visualizer."""
    monkeypatch.setattr('mmengine.runner.runner.time.time', lambda: 1e9)
    first, second = build(tmp_path, Watch()), build(tmp_path, Watch())
    assert second.timestamp == f'{first.timestamp}_2'
    assert first.log_dir != second.log_dir
    assert first.visualizer is not second.visualizer and first.logger is not second.logger


@pytest.fixture
def restored_determinism():
    """What the option switches is global."""
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = flags


@pytest.mark.slow
def test_deterministic_runs(tmp_path, restored_determinism, monkeypatch):
    """With drop path, two accumulated batches, a validation, and a loader's worker; another seed differs."""
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', 'put back afterwards')
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG')
    write_photographs(tmp_path / 'images', 16)
    digests = []
    for name, seed in (('one', 0), ('two', 0), ('other', 1)):
        cfg = tiny_config(tmp_path / 'images', epochs=1)
        cfg.work_dir = str(tmp_path / name)
        cfg.randomness.update(deterministic=True, seed=seed)
        cfg.visualizer.vis_backends = []
        build_runner(cfg).train()
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':4096:8'  # else torch refuses cuBLAS
        digests.append(digest(last_checkpoint(Path(cfg.work_dir))))
    assert digests[0] == digests[1] != digests[2]


def drawn(folder, launcher):
    """What a process draws once its model is initialised."""
    runner = build(folder, Watch(), launcher=launcher, seed=3)
    runner._init_model_weights()
    weights = sum(value.double().sum().item() for value in runner.model.state_dict().values())
    dropped = DropPath(0.5).train()(torch.ones(24, 1, 1)).flatten().bool().tolist()
    return weights, [dropped, np.random.rand(), random.random()]


def test_two_processes_draw_differently_from_equal_weights(tmp_path):
    (alone,) = forked(drawn, tmp_path / 'a', 'none', processes=1)
    first, second = forked(drawn, tmp_path / 'b', 'pytorch')
    assert alone == first
    assert first[0] == second[0]  # the weights
    assert all(mine != other for mine, other in zip(first[1], second[1], strict=True))


def test_one_process_is_not_seeded_again(tmp_path, monkeypatch):
    """So that results of one process are what they were."""
    runner = build(tmp_path, Watch())
    monkeypatch.delattr(mvp_runner, 'set_random_seed')
    runner._init_model_weights()
