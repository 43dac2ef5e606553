"""Runs are resumed from the last good checkpoint, as if they had never been stopped."""

import logging
import os

import numpy as np
import pytest
import torch
from mmengine.hooks import CheckpointHook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner
from toy_runs import names

from mvp_mm.engine.checkpoint.safe_checkpoint import (
    verify_checkpoint,
)


def test_as_if_never_stopped(run, tmp_path):
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
def test_from_a_checkpoint_of_mmengines_runner(explicit, run, tmp_path, monkeypatch):
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
    states = [wrapper.optimizer.state_dict()['state'] for wrapper in (new.optim_wrapper, old.optim_wrapper)]
    assert all(torch.equal(states[0][i][key], states[1][i][key]) for i in states[0] for key in states[0][i])
    new.train()
    verify_checkpoint(tmp_path / 'epoch_3.pth')


def test_from_a_best_checkpoint(run, tmp_path):
    run(epochs=1, scores=[1]).train()
    best = tmp_path / 'best_score_epoch_1.pth'
    with pytest.raises(ValueError, match='has weights but no optimizer, so training cannot go on from it'):
        run(resume=True, load_from=str(best)).train()


@pytest.mark.parametrize('share', [0, 0.1, 0.999])
def test_a_truncated_last_checkpoint_is_passed_over(share, run, tmp_path, lines):
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


def test_one_flipped_bit(run, tmp_path, lines):
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


def test_none_is_good(run, tmp_path):
    run(epochs=2).train()
    for number in (1, 2):
        os.truncate(tmp_path / f'epoch_{number}.pth', 100)
    with pytest.raises(
        ValueError, match='none of the 2 checkpoints in .*epoch_2.pth is no plain weight.*--resume FILE'
    ):
        run(resume=True).train()


def test_a_truncated_one_that_is_named(run, tmp_path):
    run(epochs=1).train()
    os.truncate(tmp_path / 'epoch_1.pth', 1000)
    with pytest.raises(ValueError, match=r'epoch_1.pth is no plain weight file \(it is damaged, cut off'):
        run(resume=True, load_from=str(tmp_path / 'epoch_1.pth')).train()


def test_a_model_says_what_its_checkpoints_record(run, tmp_path):
    runner = run(epochs=1)
    runner.model.speech = lambda: dict(teacher=dict(sha256='ab'), mean=np.ones(3))
    runner.train()
    recorded = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)['meta']['speech']
    assert recorded['teacher'] == dict(sha256='ab') and torch.equal(recorded['mean'], torch.ones(3).double())
