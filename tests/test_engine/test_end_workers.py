import multiprocessing

import pytest
from faults.tiny_run import tiny_config, write_photographs

from mvp_mm.engine import build_runner, set_loader_option


@pytest.fixture
def cfg(tmp_path):
    write_photographs(tmp_path / 'images', 16)
    cfg = tiny_config(tmp_path / 'images', epochs=1)
    set_loader_option(cfg, 'num_workers', 1)
    set_loader_option(cfg, 'persistent_workers', True)
    cfg.work_dir = str(tmp_path / 'run')
    return cfg


def test_kept_workers_end_with_a_training_and_an_evaluation(cfg):
    before = set(multiprocessing.active_children())
    runner = build_runner(cfg)
    runner.train()
    assert set(multiprocessing.active_children()) <= before
    first = runner.val()
    assert first and runner.val() == first == runner.test()  # with new workers
    assert set(multiprocessing.active_children()) <= before


def test_kept_workers_end_with_a_training_that_fails(cfg):
    before = set(multiprocessing.active_children())
    runner = build_runner(cfg)

    def fail(*args, **kwargs):
        raise RuntimeError('out of luck')

    runner.model.train_step = fail
    with pytest.raises(RuntimeError, match='out of luck'):
        runner.train()
    assert set(multiprocessing.active_children()) <= before
