import multiprocessing

import pytest
import torch
from faults.tiny_run import tiny_config, write_photographs

from mvp_mm.engine import build_runner, loader_workers, set_loader_option
from mvp_mm.engine.loader_workers import clamp_workers


@pytest.fixture
def cfg(tmp_path):
    write_photographs(tmp_path / 'images', 16)
    cfg = tiny_config(tmp_path / 'images', epochs=1)
    set_loader_option(cfg, 'num_workers', 1)
    set_loader_option(cfg, 'persistent_workers', True)
    cfg.work_dir = str(tmp_path / 'run')
    return cfg


@pytest.mark.slow
def test_kept_workers_end_with_a_training_and_an_evaluation(cfg):
    before = set(multiprocessing.active_children())
    runner = build_runner(cfg)
    runner.train()
    assert set(multiprocessing.active_children()) <= before
    first = runner.val()
    assert first and runner.val() == first == runner.test()  # with new workers
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.slow
def test_kept_workers_end_with_a_training_that_fails(cfg):
    before = set(multiprocessing.active_children())
    runner = build_runner(cfg)

    def fail(*args, **kwargs):
        raise RuntimeError('out of luck')

    runner.model.train_step = fail
    with pytest.raises(RuntimeError, match='out of luck'):
        runner.train()
    assert set(multiprocessing.active_children()) <= before


def test_a_loader_fits_the_machine(monkeypatch):
    monkeypatch.setattr(loader_workers, 'core_share', lambda: 4)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    loader = dict(num_workers=8, persistent_workers=True, pin_memory=True)
    clamp_workers(loader)
    assert loader == dict(num_workers=4, persistent_workers=True, pin_memory=False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    loader = dict(num_workers=0, persistent_workers=True, pin_memory=True)
    loader['collate_fn'] = dict(type='default_collate', _scope_='mmpretrain')
    clamp_workers(loader)
    assert loader == dict(num_workers=0, pin_memory=True, collate_fn=dict(type='default_collate'))
