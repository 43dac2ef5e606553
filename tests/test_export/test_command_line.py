import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, str(ROOT / 'tools/export.py'), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def test_export_and_report(checkpoint, tmp_path):
    path, _ = checkpoint('classification')
    done = run('timm', path, tmp_path / 'a.safetensors', '--img-size', 48, 56)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert 'timm.create_model' in done.stdout and 'img_size=(48, 56)' in done.stdout
    assert lines[-1].startswith('  32x40  logits') and lines[-1].endswith('ok')
    assert 'mmengine - INFO' not in done.stdout + done.stderr


def test_refusal(checkpoint, tmp_path):
    path, _ = checkpoint('classification', use_abs_pos_emb=True)
    done = run('mmseg', path, tmp_path / 'a.pth')
    assert done.returncode != 0 and 'ERROR: mmseg cannot hold this student' in done.stderr
    assert not (tmp_path / 'a.pth').exists() and 'Traceback' not in done.stderr
