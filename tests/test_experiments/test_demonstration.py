"""The demonstration trains three models side by side, scores two, and draws."""

import json

import pytest

from experiments.miniature import demonstration

pytestmark = pytest.mark.slow


def test_demonstration(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demonstration, 'PRETRAINING_SCENES', 128)
    monkeypatch.setattr(demonstration, 'PRETRAINING_EPOCHS', 1)
    monkeypatch.setattr(demonstration, 'STEPS', 2)
    monkeypatch.setattr(demonstration, 'LABELS', 16)
    counts = {f'{phase}_dataloader.dataset.count': 16 for phase in ('val', 'test')}
    options = {'default_hooks.logger.interval': 1, **counts}
    scores = demonstration.demonstrate(tmp_path, options)
    assert scores == json.loads((tmp_path / 'scores.json').read_text())
    assert list(scores) == ['shipped student', 'from scratch']
    assert (tmp_path / 'segmentation.png').stat().st_size > 10_000
    assert (tmp_path / 'pretraining' / 'last_checkpoint').is_file()
    shown = capsys.readouterr().out
    for name in ('shipped_student', 'from_scratch'):
        log = (tmp_path / f'{name}.log').read_text()
        assert str(tmp_path / f'{name}.log') in shown
        assert 'Iter(train) [2/2]' in log and 'mIoU' in log
