from types import SimpleNamespace

import pytest
import torch
from exact_runs import Killed, Watch, build
from mmengine.hooks import Hook
from torchrun_jobs import forked

from mvp_mm.engine.loops import evaluation_loop
from mvp_mm.engine.loops.evaluation_loop import evaluation_arithmetic


class Precision(Hook):
    """Notes in which precision matrices are multiplied."""

    def __init__(self):
        self.seen = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._note('train')

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._note('val')

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._note('test')

    def _note(self, phase):
        self.seen.setdefault(phase, set()).add(torch.get_float32_matmul_precision())


@pytest.fixture
def build_watched(tmp_path):
    """``build_watched(...)``: a runner, and what it will note; CUDA is only said to be there by the test."""
    assert torch.get_float32_matmul_precision() == 'highest'
    watched = Precision()
    yield lambda watch=None: (build(tmp_path, watch or Watch(), validate=True, hooks=[watched]), watched)
    torch.set_float32_matmul_precision('highest')


def with_cuda(monkeypatch, found=True):
    """Only the loop is told so."""
    torch_there = vars(torch) | dict(cuda=SimpleNamespace(is_available=lambda: found))
    monkeypatch.setattr(evaluation_loop, 'torch', SimpleNamespace(**torch_there))


def test_validation_within_training(build_watched, monkeypatch):
    with_cuda(monkeypatch)
    runner, watched = build_watched()
    runner.train()
    runner.val()
    assert watched.seen == dict(train={'highest'}, val={'high'})
    assert torch.get_float32_matmul_precision() == 'highest'


def test_a_validation_that_fails_leaves_the_precision(build_watched, monkeypatch):
    with_cuda(monkeypatch)
    runner, watched = build_watched(Watch(in_validation=6))
    with pytest.raises(Killed):
        runner.train()
    assert torch.get_float32_matmul_precision() == 'highest'


def test_test_loop(build_watched, monkeypatch):
    with_cuda(monkeypatch)
    runner, watched = build_watched()
    runner._test_dataloader, runner._test_evaluator = runner._val_dataloader, runner._val_evaluator
    runner._test_loop = {}
    runner.load_or_resume = lambda: None
    runner.test()
    assert watched.seen == dict(test={'high'})


def test_nothing_changes_on_a_cpu(build_watched, monkeypatch):
    with_cuda(monkeypatch, found=False)
    runner, watched = build_watched()
    runner.train()
    assert watched.seen == dict(train={'highest'}, val={'highest'})


def test_a_precision_of_the_user_stays(build_watched, monkeypatch):
    with_cuda(monkeypatch)
    torch.set_float32_matmul_precision('medium')
    runner, watched = build_watched()
    runner.train()
    assert watched.seen == dict(train={'medium'}, val={'medium'})


def test_metrics_are_warned_of_where_training_refuses():
    torch.use_deterministic_algorithms(True)
    try:
        with evaluation_arithmetic():
            assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    with evaluation_arithmetic():
        assert not torch.are_deterministic_algorithms_enabled()


def test_a_precision_set_by_torchs_newer_names_stays():
    """``torch.get_float32_matmul_precision`` raises after it."""
    if not hasattr(torch.backends, 'fp32_precision'):
        pytest.skip('this torch has no torch.backends.fp32_precision')
    assert forked(precision_around_an_evaluation, processes=1) == [('tf32', 'tf32')]


def precision_around_an_evaluation():
    torch.backends.cuda.matmul.fp32_precision = 'tf32'
    with pytest.raises(RuntimeError):
        torch.get_float32_matmul_precision()
    with evaluation_arithmetic():
        within = torch.backends.cuda.matmul.fp32_precision
    return within, torch.backends.cuda.matmul.fp32_precision
