"""A checkpoint that cannot be written costs neither the training nor the last good one."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.visualization import LocalVisBackend
from toy_runs import names

from mvp_mm.engine import SafeCheckpointHook
from mvp_mm.engine.checkpoint import safe_checkpoint


class Failing:
    """Makes a function of :mod:`os` fail for some files, a number of times."""

    def __init__(self, monkeypatch, name, pattern, times, number=28):
        self.original = getattr(os, name)
        self.pattern, self.times, self.number = pattern, times, number
        monkeypatch.setattr(safe_checkpoint.os, name, self)

    def __call__(self, *arguments, **more):
        # of an open file its name
        named = [os.path.realpath(f'/proc/self/fd/{a}') if type(a) is int else str(a) for a in arguments]
        if self.times and any(re.search(self.pattern, name) for name in named):
            self.times -= 1
            raise OSError(self.number, os.strerror(self.number))
        return self.original(*arguments, **more)


def fail_to_write(monkeypatch, pattern, times):
    """MMEngine's way to the disk fails after half of the bytes."""
    from mmengine.fileio import LocalBackend

    original = LocalBackend.put
    left = [times]

    def put(self, content, path):
        if left[0] and re.search(pattern, str(path)):
            left[0] -= 1
            original(self, content[: len(content) // 2], path)
            raise OSError(28, 'No space left on device')
        return original(self, content, path)

    monkeypatch.setattr(LocalBackend, 'put', put)


@pytest.mark.parametrize('at', ['write', 'open', 'fsync', 'replace'])
def test_training_goes_on_and_the_good_one_stays(at, run, tmp_path, monkeypatch, lines):
    if at == 'write':
        fail_to_write(monkeypatch, 'epoch_2', 1)
    else:
        Failing(monkeypatch, at, 'epoch_2', 1)
    seen = []

    class Look(Hook):
        priority = 'LOWEST'

        def after_train_epoch(self, runner):
            seen.append((names(tmp_path), (tmp_path / 'last_checkpoint').read_text()))

    run(epochs=3, keep=1, hook=Look()).train()
    assert [files for files, _ in seen] == [
        ['epoch_1.pth', 'last_checkpoint'],
        ['epoch_1.pth', 'last_checkpoint'],
        ['epoch_3.pth', 'last_checkpoint'],
    ]
    assert [Path(last).name for _, last in seen] == ['epoch_1.pth', 'epoch_1.pth', 'epoch_3.pth']
    (error,) = [text for level, text in lines if level == logging.ERROR]
    assert 'epoch_2.pth could not be written ([Errno 28] No space left on device' in error
    assert f'Training goes on; the last good one is {tmp_path / "epoch_1.pth"}' in error


@pytest.mark.parametrize(
    ('function', 'number', 'words'),
    [('open', 30, 'Read-only file system'), ('replace', 122, 'quota exceeded')],
)
def test_read_only_folders_and_quotas(function, number, words, run, tmp_path, monkeypatch, lines):
    """In the middle of a training, for a checkpoint and for the file that names the last one."""
    Failing(monkeypatch, function, 'epoch_2|last_checkpoint.*', 1, number)
    run(epochs=3).train()
    (error,) = [text for level, text in lines if level == logging.ERROR]
    assert 'could not be written' in error and words in error and 'make the folder writable' in error
    assert names(tmp_path)[-2:] == ['epoch_3.pth', 'last_checkpoint']
    assert Path((tmp_path / 'last_checkpoint').read_text()).name == 'epoch_3.pth'


@pytest.mark.slow
def test_a_small_tmpfs(tmp_path):
    """A real full disk, where this user may mount one."""
    mount = ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c']
    # room for a few checkpoints, until the run fills it up
    script = f'mount -t tmpfs -o size=400k tmpfs {tmp_path} && exec "$0" "$1" {tmp_path}'
    try:
        may = subprocess.run([*mount, f'mount -t tmpfs tmpfs {tmp_path}'], capture_output=True)
    except FileNotFoundError:
        pytest.skip('there is no unshare')
    if may.returncode:
        pytest.skip('no tmpfs can be mounted')
    done = subprocess.run(
        [*mount, script, sys.executable, Path(__file__).with_name('full_disk.py')],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'RESULT ' in done.stdout, done.stdout + done.stderr
    told = done.stdout.split('RESULT ')[1].split()
    assert told == ['epoch_1.pth', 'good', 'epoch_3.pth', 'good'], done.stdout + done.stderr


def test_it_is_tried_again_between_epochs(run, tmp_path, monkeypatch, lines):
    fail_to_write(monkeypatch, 'epoch_2|iter_5', 2)
    seen = []

    class Look(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            seen.append(names(tmp_path)[:-1])

    run(epochs=4, keep=1, hook=Look(), retry_interval=1).train()
    # epochs of two iterations: epoch_2 fails after the fourth, iter_5 too
    assert seen[3:7] == [
        ['epoch_1.pth'],
        ['epoch_1.pth'],
        ['epoch_1.pth', 'iter_6.pth'],
        ['epoch_3.pth'],
    ]
    assert sum(level == logging.ERROR for level, _ in lines) == 2
    assert names(tmp_path) == ['epoch_4.pth', 'last_checkpoint']


def test_retry_interval():
    with pytest.raises(ValueError, match='retry_interval=0 is no number of iterations'):
        SafeCheckpointHook(retry_interval=0)


def test_logs_that_cannot_be_written(run, tmp_path, monkeypatch, lines, capsys):
    def full(*arguments):
        raise OSError(28, 'No space left on device')

    runner = run(epochs=1)
    monkeypatch.setattr(LocalVisBackend, '_dump', full)
    runner.train()
    told = [text for level, text in lines if level == logging.ERROR]
    assert told == [
        'LocalVisBackend cannot write ([Errno 28] No space left on device): training goes on without its '
        'records'
    ]
    (handler,) = [each for each in runner.logger.handlers if isinstance(each, logging.FileHandler)]
    monkeypatch.setattr(handler.stream, 'write', full, raising=False)
    for _ in range(2):
        handler.emit(logging.LogRecord('mmengine', logging.INFO, 'x.py', 1, 'a line', (), None))
    told = capsys.readouterr().err
    assert told.count('cannot be written ([Errno 28]') == 1 and 'Traceback' not in told


def test_at_the_end_it_is_an_error(run, tmp_path, monkeypatch):
    fail_to_write(monkeypatch, 'epoch_2', 9)
    with pytest.raises(
        OSError, match='last checkpoint of this training could not be.*epoch_1.pth. Make room'
    ):
        run(epochs=2).train()
    monkeypatch.undo()
    runner = run(epochs=2, resume=True)
    runner.train()
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth', 'last_checkpoint']


def test_what_is_not_readable_again_is_not_taken(run, tmp_path, monkeypatch, lines):
    original = torch.save

    def lose(value, file, *more):
        original(value, file, *more)
        if value['meta']['epoch'] == 2:
            file.seek(file.tell() - 50)
            file.truncate()

    monkeypatch.setattr(torch, 'save', lose)
    run(epochs=3).train()
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_3.pth', 'last_checkpoint']
    assert any('epoch_2.pth could not be read back after writing' in text for _, text in lines)


def test_the_best_one_stays_until_the_next_is_safe(run, tmp_path, monkeypatch, lines):
    fail_to_write(monkeypatch, 'best_score_epoch_2', 1)
    runner = run(epochs=2, scores=[1, 2])
    runner.train()
    assert 'best_score_epoch_1.pth' in names(tmp_path)
    assert runner.message_hub.get_info('best_score') == 1
    assert any('The best checkpoint so far could not be written' in text for _, text in lines)
    again = run(epochs=3, scores=[2, 3], resume=True)  # the second validation is made up for
    again.train()
    assert [name for name in names(tmp_path) if 'best' in name] == ['best_score_epoch_3.pth']


def test_half_written_files_of_a_killed_run_are_removed(run, tmp_path):
    run(epochs=1).train()
    (tmp_path / '.epoch_2.pth.partial').write_bytes(b'half')
    run(epochs=2, resume=True).train()
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth', 'last_checkpoint']


def test_without_a_checkpoint_hook_of_the_config(run):
    hooks = [type(hook).__name__ for hook in run().hooks]
    assert hooks.count('SafeCheckpointHook') == 1 and 'CheckpointHook' not in hooks
