"""Checkpoints of plain data, written whole or not at all, and gone on from at the last good one."""

import collections
import enum
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import HistoryBuffer, MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend
from torch import nn

from mvp_mm.engine import MVPRunner, SafeCheckpointHook
from mvp_mm.engine.checkpoint import safe_checkpoint, work_dir_lock
from mvp_mm.engine.checkpoint.safe_checkpoint import (
    load_checkpoint_file,
    make_plain,
    saved_checkpoints,
    verify_checkpoint,
)


class Toy(BaseModel):
    """The smallest model that trains and has a score."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x, mode='loss'):
        output = self.norm(self.layer(x))
        return dict(loss=output.pow(2).mean()) if mode == 'loss' else list(output)


class Score(Evaluator):
    """Gives one number after another."""

    def __init__(self, values):
        super().__init__([])
        self.values = iter(values)

    def process(self, data_samples, data_batch):
        """Nothing to look at."""

    def evaluate(self, size):
        """The next score, of numpy's kind as metrics give them."""
        return {'score': np.float64(next(self.values))}


@pytest.fixture
def lines(monkeypatch):
    """What is logged: (level, text)."""
    kept = []
    monkeypatch.setattr(
        MMLogger, 'callHandlers', lambda self, record: kept.append((record.levelno, record.getMessage()))
    )
    return kept


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Build the runner of a toy training, without the report on the machine, which takes longest."""
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    number = iter(range(1000))

    def build(epochs=3, cls=MVPRunner, scores=None, hook=None, keep=2, retry_interval=None, **more):
        torch.manual_seed(0)
        data = [dict(x=row) for row in torch.randn(8, 2)]
        loader = dict(dataset=data, batch_size=4, num_workers=0, collate_fn=dict(type='default_collate'))
        checkpoint = dict(type='CheckpointHook', interval=1, max_keep_ckpts=keep)
        if retry_interval:
            checkpoint.update(retry_interval=retry_interval)
        if scores:
            checkpoint.update(save_best='score', rule='greater')
            sampler = dict(type='DefaultSampler', shuffle=False)
            more |= dict(
                val_dataloader=dict(loader, sampler=sampler), val_cfg={}, val_evaluator=Score(scores)
            )
        loader['sampler'] = dict(type='DefaultSampler', shuffle=True)
        return cls(
            model=Toy(),
            work_dir=str(tmp_path),
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
            param_scheduler=[dict(type='MultiStepLR', milestones=[2]), dict(type='LinearLR', by_epoch=False)],
            default_hooks=dict(checkpoint=checkpoint, logger=dict(type='LoggerHook', interval=1)),
            custom_hooks=[hook] if hook else None,
            randomness=dict(seed=1),
            experiment_name=f'{tmp_path.name}-{next(number)}',
            **more,
        )

    return build


def names(folder):
    files = [path for path in Path(folder).iterdir() if path.is_file() and path.suffix != '.py']
    return sorted(path.name for path in files if path.name != work_dir_lock.NAME)


def contents(value):
    """Types of all that a structure holds."""
    if isinstance(value, dict):
        return {type(value)}.union(*(contents(part) for pair in value.items() for part in pair))
    if isinstance(value, list | tuple):
        return {type(value)}.union(*(contents(part) for part in value))
    return {type(value)}


PLAIN = {dict, collections.OrderedDict, list, tuple, str, int, float, bool, type(None), torch.Tensor}


class TestPlain:
    def test_a_checkpoint_holds_plain_data_only(self, run, tmp_path):
        class Tell(Hook):
            def before_save_checkpoint(self, runner, checkpoint):
                checkpoint['told'] = dict(best=np.float64(0.5), ids=np.arange(3), path=Path('a'))

        run(hook=Tell(), scores=[1, 2, 3]).train()
        for path in tmp_path.glob('*.pth'):
            checkpoint = torch.load(path, weights_only=True)
            assert contents(checkpoint) <= PLAIN, contents(checkpoint) - PLAIN
            assert checkpoint['told']['best'] == 0.5 and checkpoint['told']['path'] == 'a'
        assert names(tmp_path) == ['best_score_epoch_3.pth', 'epoch_2.pth', 'epoch_3.pth', 'last_checkpoint']
        history = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)['message_hub']['log_scalars']
        assert history['train/loss']['log_history'].dtype == torch.float64
        assert len(history['train/loss']['log_history']) == 6

    def test_every_kind(self, lines):
        class Kind(enum.IntEnum):
            ONE = 1

        class Other:
            pass

        checkpoint = dict(
            a=[np.float32(0.5), np.int64(3), np.bool_(True), np.str_('x'), np.longdouble(2), Kind.ONE],
            b=collections.deque([1, {2}]),
            c=np.arange(6.0, dtype='>f4').reshape(2, 3)[:, ::-1],
            d=np.array(['u', 'v']),
            e=collections.Counter('aab'),
            f=(nn.Parameter(torch.ones(1)), torch.float16, torch.device('cpu')),
            g=HistoryBuffer([1.5], [2]),
            h=Other(),
        )
        make_plain(checkpoint)
        assert contents(checkpoint) <= PLAIN | {nn.Parameter}
        assert checkpoint['a'] == [0.5, 3, True, 'x', 2.0, 1]
        assert checkpoint['b'] == [1, [2]] and checkpoint['d'] == ['u', 'v']
        assert checkpoint['c'].tolist() == [[2, 1, 0], [5, 4, 3]]
        assert checkpoint['e'] == {'a': 2, 'b': 1}
        assert checkpoint['f'][1:] == ('torch.float16', 'cpu')
        assert checkpoint['g']['count_history'].tolist() == [2] and checkpoint['h'] is None
        (line,) = lines
        assert line == (logging.WARNING, 'Left out of the checkpoint, which holds plain data only: h (Other)')

    def test_versions_of_modules_are_kept(self, run, tmp_path):
        run(epochs=1).train()
        state = load_checkpoint_file(tmp_path / 'epoch_1.pth')['state_dict']
        assert state._metadata['norm']['version'] == 2


class TestGoingOn:
    def test_as_if_never_stopped(self, run, tmp_path):
        whole = run(epochs=4)
        whole.train()
        expected = {name: value.clone() for name, value in whole.model.state_dict().items()}
        history = whole.message_hub.log_scalars['train/loss'].data[0]
        (tmp_path / 'epoch_4.pth').unlink()
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
        again = run(epochs=4, resume=True)
        again.train()
        for name, value in again.model.state_dict().items():
            assert torch.equal(value, expected[name]), name
        assert isinstance(again.message_hub.log_scalars['train/loss'], HistoryBuffer)
        assert np.array_equal(again.message_hub.log_scalars['train/loss'].data[0], history)

    @pytest.mark.parametrize('explicit', [False, True])
    def test_from_a_checkpoint_of_mmengines_runner(self, explicit, run, tmp_path, monkeypatch):
        """With its HistoryBuffers and numpy's numbers, which torch's safe mode refuses."""
        old = run(epochs=2, cls=Runner, scores=[1, 2])
        assert type(next(h for h in old.hooks if isinstance(h, CheckpointHook))) is CheckpointHook
        old.train()
        history = old.message_hub.log_scalars['train/loss'].data
        path = tmp_path / 'epoch_2.pth'
        with pytest.raises(Exception, match='Weights only load failed'):
            torch.load(path, weights_only=True)
        more = dict(load_from=str(path)) if explicit else {}
        new = run(epochs=3, scores=[2, 3], resume=True, **more)
        new.load_or_resume()
        assert new.message_hub.get_info('best_score') == 2 and new.epoch == 2
        for mine, theirs in zip(new.message_hub.log_scalars['train/loss'].data, history, strict=True):
            assert np.array_equal(mine, theirs) and mine.dtype == theirs.dtype
        for name, value in new.model.state_dict().items():
            assert torch.equal(value, old.model.state_dict()[name]), name
        states = [
            wrapper.optimizer.state_dict()['state'] for wrapper in (new.optim_wrapper, old.optim_wrapper)
        ]
        assert all(
            torch.equal(states[0][i][key], states[1][i][key]) for i in states[0] for key in states[0][i]
        )
        new.train()
        verify_checkpoint(tmp_path / 'epoch_3.pth')

    def test_from_a_best_checkpoint(self, run, tmp_path):
        run(epochs=1, scores=[1]).train()
        best = tmp_path / 'best_score_epoch_1.pth'
        with pytest.raises(
            ValueError, match='has weights but no optimizer, so training cannot go on from it'
        ):
            run(resume=True, load_from=str(best)).train()


class TestDamage:
    @pytest.mark.parametrize('share', [0, 0.1, 0.999])
    def test_a_truncated_last_checkpoint_is_passed_over(self, share, run, tmp_path, lines):
        run(epochs=2).train()
        last = tmp_path / 'epoch_2.pth'
        os.truncate(last, int(last.stat().st_size * share))
        runner = run(epochs=3, resume=True)
        runner.train()
        warned = [text for level, text in lines if level == logging.WARNING and 'passed over' in text]
        assert len(warned) == 1 and warned[0].startswith(f'{last} is no plain weight file (it is ')
        assert f'Load checkpoint from {tmp_path / "epoch_1.pth"}' in [text for _, text in lines]
        verify_checkpoint(last)
        assert names(tmp_path) == ['epoch_2.pth', 'epoch_3.pth', 'last_checkpoint']

    def test_one_flipped_bit(self, run, tmp_path, lines):
        run(epochs=2).train()
        last = tmp_path / 'epoch_2.pth'
        content = bytearray(last.read_bytes())
        weight = torch.load(last, weights_only=True)['state_dict']['layer.weight'].numpy().tobytes()
        content[content.index(weight)] ^= 1
        last.write_bytes(content)
        with pytest.raises(ValueError, match='epoch_2.pth is damaged: the checksum of .* is wrong'):
            run(epochs=2, resume=True, load_from=str(last)).load_or_resume()
        run(epochs=2, resume=True).load_or_resume()
        assert any('the checksum of' in text and 'is wrong' in text for _, text in lines)

    def test_none_is_good(self, run, tmp_path):
        run(epochs=2).train()
        for number in (1, 2):
            os.truncate(tmp_path / f'epoch_{number}.pth', 100)
        with pytest.raises(
            ValueError, match='none of the 2 checkpoints in .*epoch_2.pth is no plain weight.*--resume FILE'
        ):
            run(resume=True).train()

    def test_a_truncated_one_that_is_named(self, run, tmp_path):
        run(epochs=1).train()
        os.truncate(tmp_path / 'epoch_1.pth', 1000)
        with pytest.raises(ValueError, match=r'epoch_1.pth is no plain weight file \(it is damaged, cut off'):
            run(resume=True, load_from=str(tmp_path / 'epoch_1.pth')).train()

    def test_order(self, tmp_path):
        for name in ('epoch_2', 'epoch_10', 'epoch_9', 'iter_11', 'best_x_epoch_3'):
            (tmp_path / f'{name}.pth').touch()
        pointer = tmp_path / 'last_checkpoint'
        assert saved_checkpoints(tmp_path / 'nowhere') == []
        pointer.write_text('/gone/epoch_9.pth')
        order = ['epoch_9.pth', 'epoch_2.pth', 'iter_11.pth']
        assert [path.name for path in saved_checkpoints(tmp_path)] == order
        assert saved_checkpoints(tmp_path)[0].is_file()  # the folder was moved
        (tmp_path / 'epoch_9.pth').unlink()
        assert [path.name for path in saved_checkpoints(tmp_path)] == order
        for text in ('', '\0\0\0', 'epo'):
            pointer.write_text(text)
            found = [path.name for path in saved_checkpoints(tmp_path)]
            assert {'epoch_10.pth', 'epoch_2.pth', 'iter_11.pth'} <= set(found)
        pointer.unlink()
        assert len(saved_checkpoints(tmp_path)) == 3


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


class TestFullDisk:
    @pytest.mark.parametrize('at', ['write', 'open', 'fsync', 'replace'])
    def test_training_goes_on_and_the_good_one_stays(self, at, run, tmp_path, monkeypatch, lines):
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
    def test_read_only_folders_and_quotas(self, function, number, words, run, tmp_path, monkeypatch, lines):
        """In the middle of a training, for a checkpoint and for the file that names the last one."""
        Failing(monkeypatch, function, 'epoch_2|last_checkpoint.*', 1, number)
        run(epochs=3).train()
        (error,) = [text for level, text in lines if level == logging.ERROR]
        assert 'could not be written' in error and words in error and 'make the folder writable' in error
        assert names(tmp_path)[-2:] == ['epoch_3.pth', 'last_checkpoint']
        assert Path((tmp_path / 'last_checkpoint').read_text()).name == 'epoch_3.pth'

    @pytest.mark.slow
    def test_a_small_tmpfs(self, tmp_path):
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

    def test_it_is_tried_again_between_epochs(self, run, tmp_path, monkeypatch, lines):
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

    def test_retry_interval(self):
        with pytest.raises(ValueError, match='retry_interval=0 is no number of iterations'):
            SafeCheckpointHook(retry_interval=0)

    def test_logs_that_cannot_be_written(self, run, tmp_path, monkeypatch, lines, capsys):
        def full(self, *arguments):
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

    def test_at_the_end_it_is_an_error(self, run, tmp_path, monkeypatch):
        fail_to_write(monkeypatch, 'epoch_2', 9)
        with pytest.raises(
            OSError, match='last checkpoint of this training could not be.*epoch_1.pth. Make room'
        ):
            run(epochs=2).train()
        monkeypatch.undo()
        runner = run(epochs=2, resume=True)
        runner.train()
        assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth', 'last_checkpoint']

    def test_what_is_not_readable_again_is_not_taken(self, run, tmp_path, monkeypatch, lines):
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

    def test_the_best_one_stays_until_the_next_is_safe(self, run, tmp_path, monkeypatch, lines):
        fail_to_write(monkeypatch, 'best_score_epoch_2', 1)
        runner = run(epochs=2, scores=[1, 2])
        runner.train()
        assert 'best_score_epoch_1.pth' in names(tmp_path)
        assert runner.message_hub.get_info('best_score') == 1
        assert any('The best checkpoint so far could not be written' in text for _, text in lines)
        again = run(epochs=3, scores=[2, 3], resume=True)  # the second validation is made up for
        again.train()
        assert [name for name in names(tmp_path) if 'best' in name] == ['best_score_epoch_3.pth']

    def test_half_written_files_of_a_killed_run_are_removed(self, run, tmp_path):
        run(epochs=1).train()
        (tmp_path / '.epoch_2.pth.partial').write_bytes(b'half')
        run(epochs=2, resume=True).train()
        assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth', 'last_checkpoint']

    def test_without_a_checkpoint_hook_of_the_config(self, run):
        hooks = [type(hook).__name__ for hook in run().hooks]
        assert hooks.count('SafeCheckpointHook') == 1 and 'CheckpointHook' not in hooks
