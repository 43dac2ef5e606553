"""The two command lines, as a user calls them, once each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

from mvp_mm.visualization.viewed_model import build_student
from mvp_mm.zoo.hub import model_config

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / 'configs/mvp/vittiny_debug.py')


def call(tool, *arguments, expect=0):
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, str(ROOT / 'tools' / tool), *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    output = done.stdout + done.stderr
    assert done.returncode == expect, output
    return output


def test_visualize_attention(tmp_path, image_folder):
    """A pre-training checkpoint beside an MAE, with the teacher, over a photograph and a scene, as a PDF."""
    vit = build_student(model_config(CONFIG).model.backbone, 'debug')
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


def test_visualize_attention_says_what_is_wrong(tmp_path):
    output = call('visualize_attention.py', 'gone.jpg', '--model', CONFIG, 'random', expect=1)
    assert 'ERROR: gone.jpg cannot be read as an image' in output and 'Traceback' not in output


def test_plot_curves(tmp_path):
    for name in ('clip', 'pixel'):
        folder = tmp_path / name / '20260101_000000' / 'vis_data'
        folder.mkdir(parents=True)
        rows = [dict(loss=1 / i, lr=0.1, iter=i, step=i) for i in range(1, 9)]
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))
    out = tmp_path / 'deep' / 'curves.png'
    output = call('plot_curves.py', tmp_path / 'clip', tmp_path / 'pixel', '--out', out, '--log', 'loss')
    assert '2 runs drawn to' in output and Image.open(out).size[0] > 600
    output = call('plot_curves.py', tmp_path / 'clip', '--keys', 'mIoU', expect=1)
    assert "ERROR: no run has a key 'mIoU'; there are loss, lr" in output and 'Traceback' not in output
