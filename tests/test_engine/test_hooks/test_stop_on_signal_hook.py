"""SIGTERM and SIGINT save a checkpoint, and what comes after is as if they had never come."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from exact_runs import Numbers, Signal, Watch, build, finish
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from mvp_mm.engine import StopOnSignalHook, load_config
from mvp_mm.engine.hooks import stop_on_signal_hook
from mvp_mm.evaluation import Evaluator

ROOT = Path(__file__).parents[3]


@pytest.fixture
def stopped(tmp_path):
    """``stopped(after, **options)``: the exit status of a run that gets a signal."""

    def run(after, number=signal.SIGTERM, hook=None, **more):
        stop = StopOnSignalHook()
        sender = hook or Signal(stop, after, os.getpid(), number)
        with pytest.raises(SystemExit) as ended:
            build(tmp_path / 'cut', Watch(), hooks=[sender, stop], **more).train()
        return ended.value.code

    return run


def saved(folder):
    """Checkpoints by name: epoch and iteration."""
    found = {}
    for path in folder.glob('*.pth'):
        meta = torch.load(path, weights_only=True)['meta']
        found[path.name] = meta['epoch'], meta['iter']
    return found


@pytest.mark.parametrize('workers', [0, 1])
def test_the_run_goes_on_as_if_never_stopped(workers, stopped, tmp_path, capfd):
    before = {number: signal.getsignal(number) for number in stop_on_signal_hook.SIGNALS}
    watch = Watch()
    losses, state = finish(build(tmp_path / 'whole', watch), watch)
    assert stopped(8, workers=workers) == 128 + 15
    assert saved(tmp_path / 'cut') == {'epoch_1.pth': (1, 6), 'iter_8.pth': (1, 8)}
    written = capfd.readouterr().err
    assert written.count('SIGTERM: saving a checkpoint after this step') == 1
    assert {number: signal.getsignal(number) for number in before} == before
    watch = Watch()
    rest, state_after = finish(build(tmp_path / 'cut', watch, resume=True), watch)
    assert rest == losses[8:]
    assert all(torch.equal(value, state_after[name]) for name, value in state.items())
    assert set(saved(tmp_path / 'cut')) == {'epoch_1.pth', 'epoch_2.pth'}  # the one between them is gone


def test_sigint_waits_for_the_optimiser_step(stopped, tmp_path):
    assert stopped(7, signal.SIGINT, by_epoch=False, accumulation=2, interval=6) == 128 + 2
    assert saved(tmp_path / 'cut') == {'iter_6.pth': (0, 6), 'iter_8.pth': (0, 8)}


def test_not_saved_twice(stopped, tmp_path):
    assert stopped(4, by_epoch=False, interval=4) == 143
    assert saved(tmp_path / 'cut') == {'iter_4.pth': (0, 4)}


def test_in_a_validation(stopped, tmp_path):
    class InValidation(Hook):
        def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if batch_idx == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    watch = Watch()
    losses, _ = finish(build(tmp_path / 'whole', watch, validate=True), watch)
    assert stopped(None, hook=InValidation(), validate=True, interval=5) == 143
    assert saved(tmp_path / 'cut') == {'iter_6.pth': (1, 6)}
    watch = Watch()
    rest, _ = finish(build(tmp_path / 'cut', watch, validate=True, resume=True), watch)
    assert rest == losses[6:] and watch.validated == [6, 12]


def test_among_the_batches_of_an_evaluator(stopped, tmp_path):
    class Interrupted(Evaluator):
        default_prefix = 'interrupted'
        seen: ClassVar[list] = []

        def evaluate(self, model):
            for batch in self.batches(model, self.dataloader):
                self.seen.append(batch)
                if len(self.seen) == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
            return {}

    loader = DataLoader(Numbers(24), batch_size=4)
    evaluator = Interrupted(loader)
    more = dict(
        val_dataloader={}, val_evaluator={}, val_cfg=dict(type='EvaluatorLoop', evaluators=[evaluator])
    )
    assert stopped(None, hook=Hook(), interval=5, **more) == 143
    assert len(evaluator.seen) == 2 and saved(tmp_path / 'cut') == {'iter_6.pth': (1, 6)}
    assert len([*loader]) == 6  # the loader is as before


def test_a_checkpoint_that_cannot_be_written(stopped, tmp_path, monkeypatch):
    def full(*arguments, **more):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mvp_mm.engine.checkpoint.resumable_runner.atomic_write', full)
    assert stopped(3) == 143
    assert saved(tmp_path / 'cut') == {}


def test_a_second_signal_ends_at_once(monkeypatch):
    sent = []
    monkeypatch.setattr(os, 'kill', lambda process, number: sent.append((process, number)))
    monkeypatch.setattr(signal, 'signal', lambda number, handler: sent.append(handler))
    clock = iter([10.0, 11.9, 12.0])
    monkeypatch.setattr(stop_on_signal_hook.time, 'monotonic', lambda: next(clock))
    hook = StopOnSignalHook()
    hook._speaks = False
    hook._receive(15, None)
    hook._receive(15, None)  # the same one, passed on by torchrun
    assert not sent
    hook._receive(2, None)
    assert sent == [signal.SIG_DFL, (os.getpid(), 2)]


def test_a_worker_outlives_the_first(monkeypatch):
    handlers, ended, begun = {}, [], []
    monkeypatch.setattr(signal, 'signal', handlers.__setitem__)
    monkeypatch.setattr(os, '_exit', ended.append)
    leaving = SimpleNamespace(value=0)
    stop_on_signal_hook._begin_worker(begun.append, leaving, 3)
    assert begun == [3] and set(handlers) == {signal.SIGTERM, signal.SIGINT}
    handlers[signal.SIGTERM](15, None)
    assert not ended
    handlers[signal.SIGTERM](15, None)
    assert ended == [143]
    stop_on_signal_hook._begin_worker(None, leaving, 3)
    leaving.value = 1  # the training process has nothing more to do
    handlers[signal.SIGTERM](15, None)
    assert ended[1] == 0


def test_in_a_thread_signals_are_left_alone(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    runner = build(tmp_path, Watch(), hooks=[StopOnSignalHook()])
    thread = threading.Thread(target=runner.train)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before and runner.iter == 12


@pytest.mark.parametrize('name', ['mvp/vittiny_debug', 'upernet/vittiny_custom', 'finetune/vittiny_debug'])
def test_every_config_has_it(name):
    cfg = load_config(str(ROOT / 'configs' / f'{name}.py'))
    assert 'StopOnSignalHook' in [hook['type'] for hook in cfg.default_hooks.values()]


ENDING = """
import sys
from exact_runs import Watch, build
kept = [build(sys.argv[1] + str(each), Watch(), by_epoch=each, workers=1) for each in (True, False)]
for runner in kept:
    runner.train()
print('trained')
"""


@pytest.mark.slow
def test_the_process_ends_after_training(tmp_path):
    """Workers outlive one SIGTERM, and that is what Python ends those with that are left at exit."""
    command = [sys.executable, '-c', ENDING, str(tmp_path / 'by_epoch_')]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and 'trained' in done.stdout, done.stderr
    assert 'Exception' not in done.stderr and 'unexpectedly' not in done.stderr
