"""The two command lines, as a user calls them, once each."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from mvp_mm.models.from_config import build_student
from mvp_mm.zoo.hub import model_config

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / 'configs/mvp/vittiny_debug.py')


@pytest.fixture
def call(monkeypatch, capsys):
    def run(tool, *arguments, expect=0):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
        except SystemExit as stopped:
            status = stopped.code or 0
        printed = capsys.readouterr()
        assert (status if isinstance(status, int) else 1) == expect, printed
        return f'{printed.out}{printed.err}{status}'

    return run


@pytest.mark.slow
def test_visualize_attention(tmp_path, image_folder, call):
    """A pre-training checkpoint beside an MAE, with the teacher, over a photograph and a scene, as a PDF."""
    vit = build_student(model_config(CONFIG))
    state = {f'backbone.{name}': value for name, value in vit.state_dict().items()}
    torch.save(dict(state_dict=state, meta=dict(epoch=1)), tmp_path / 'epoch_1.pth')
    output = call(
        'visualize_attention.py',
        next(image_folder.rglob('*.jpg')),
        'scenes:val:7',
        *('--model', CONFIG, tmp_path / 'epoch_1.pth', 'MVP'),
        *('--model', 'mvp_vittiny_scenes_mae', 'random', 'MAE, untrained'),
        *('--show', 'attention', 'rollout', 'similarity', 'pca', '--patch', '0.5,0.5', '--teacher'),
        *('--out', tmp_path / 'figure3.pdf', '--device', 'cpu'),
    )
    assert '2 images seen by 2 models drawn to' in output
    assert (tmp_path / 'figure3.pdf').read_bytes().startswith(b'%PDF')
    output = call('visualize_attention.py', 'gone.jpg', '--model', CONFIG, 'random', expect=1)
    assert 'gone.jpg cannot be read as an image' in output and 'Traceback' not in output


def test_plot_curves(tmp_path, call):
    for name in ('clip', 'pixel'):
        folder = tmp_path / name / '20260101_000000' / 'vis_data'
        folder.mkdir(parents=True)
        rows = [dict(loss=1 / i, lr=0.1, iter=i, step=i) for i in range(1, 9)]
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))
    out = tmp_path / 'deep' / 'curves.png'
    output = call('plot_curves.py', tmp_path / 'clip', tmp_path / 'pixel', '--out', out, '--log', 'loss')
    assert '2 runs drawn to' in output and Image.open(out).size[0] > 600
    output = call('plot_curves.py', tmp_path / 'clip', '--keys', 'mIoU', expect=1)
    assert "no run has a key 'mIoU'; there are loss, lr" in output and 'Traceback' not in output
