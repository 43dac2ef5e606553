"""The command lines, as a user calls them."""

import csv
import hashlib
import json
import logging
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from timm.layers import trunc_normal_
from torchrun_jobs import free_port

from mvp_mm.datasets.scenes import SceneCollection
from mvp_mm.models import CLIPTargetGenerator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / 'configs/mvp/vittiny_debug.py')


def call(*command, cwd=None, **env):
    """Run a command with this interpreter first on PATH; return all it printed."""
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    env = {**os.environ, 'PATH': path, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **env}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def tool(monkeypatch, tmp_path, capsys):
    """``tool('train.py', CONFIG)``: a tool in this process, in a folder of its own; all it printed."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
        return ''.join(capsys.readouterr())

    return run


def options(folder, **more):
    short = {
        'train_dataloader.dataset.data_root': folder,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'test_dataloader.dataset.data_root': folder,
        'test_dataloader.num_workers': 0,
        'test_dataloader.persistent_workers': False,
        'train_cfg.max_epochs': 2,
        'default_hooks.checkpoint.interval': 1,
        **more,
    }
    return ['--cfg-options', *(f'{key}={value}' for key, value in short.items())]


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    call(sys.executable, ROOT / 'tools/render_images.py', '--out', folder, '--count', 32, '--size', 80)
    return folder


@pytest.fixture(scope='module')
def trained(images, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('run')
    train = (sys.executable, ROOT / 'tools/train.py', CONFIG, '--work-dir', work_dir)
    return work_dir, call(*train, *options(images), cwd=work_dir)


def test_rendered_images(images):
    files = sorted(images.glob('*.png'))
    assert len(files) == 32
    assert Image.open(files[7]).tobytes() == SceneCollection('train', 32, 80)[7][0].tobytes()


def test_train_prints_and_saves(trained):
    work_dir, output = trained
    losses = [float(value) for value in re.findall(r' loss: (-?\d+\.\d+)', output)]
    assert len(losses) == 8 and all(-1 <= loss <= 1 for loss in losses)
    for word in ('eta: ', 'images_per_second: ', 'host_memory: ', 'cosine_cls: ', 'cosine_masked: '):
        assert word in output, word
    assert 'Total batch: 1 process x 8 images x 2 accumulated iterations = 16, as the recipe says.' in output
    assert 'RANDOM weights' in output
    for noise in (
        'OneDL',
        'MultiScaleDeformableAttention',
        'FileClient',
        'HardDiskBackend',
        'scheduler.step',
    ):
        assert noise not in output
    state = torch.load(work_dir / 'epoch_2.pth', weights_only=False)['state_dict']
    assert {key.split('.')[0] for key in state} == {'backbone', 'neck'}
    (log,) = work_dir.glob('*/vis_data/*_*.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row['loss'] for row in rows] == pytest.approx(losses, abs=1e-4)
    assert list(work_dir.rglob('events.out.tfevents*'))


def test_resume_goes_on(trained, images, tool):
    more = options(images, **{'train_cfg.max_epochs': 3})
    output = tool('train.py', CONFIG, '--work-dir', trained[0], '--resume', *more)
    assert 'resumed epoch: 2' in output
    assert re.findall(r'Epoch\(train\)\s+\[(\d)\]', output) == ['3'] * 4


def test_test_reports_the_cosines(trained, images, tool, tmp_path):
    out = tmp_path / 'metrics.json'
    checkpoint = trained[0] / 'epoch_2.pth'
    tool('test.py', CONFIG, checkpoint, '--out', out, '--work-dir', tmp_path, *options(images))
    figures = json.loads(out.read_text())
    assert set(figures) == {
        f'target_cosine/{name}'
        for name in ('cosine', 'cls', 'visible', 'masked', 'constant', 'excess', 'shuffled')
    }
    assert all(-1 <= value <= 1 for value in figures.values())


def test_amp_trains_in_bf16(images, tool, tmp_path):
    few = {'train_cfg.max_epochs': 1, 'train_dataloader.dataset.indices': 16}
    output = tool('train.py', CONFIG, '--amp', '--work-dir', tmp_path, *options(images, **few))
    losses = [float(value) for value in re.findall(r' loss: (-?\d+\.\d+)', output)]
    assert len(losses) == 2 and all(-1 <= loss <= 1 for loss in losses)
    assert "precision='bfloat16'" in (tmp_path / 'vittiny_debug.py').read_text()


@pytest.mark.slow
def test_two_processes(images, tmp_path):
    """The total batch is kept, so one process and two see the same data and end at the same weights."""
    finals = []
    for processes in (1, 2):
        work_dir = tmp_path / str(processes)
        settings = {
            'train_dataloader.batch_size': 16 // processes,
            'model.backbone.drop_path_rate': 0.0,
            'train_cfg.max_epochs': 1,
        }
        arguments = ['--work-dir', work_dir, *options(images, **settings)]
        command = [sys.executable, ROOT / 'tools/train.py', CONFIG]
        if processes > 1:
            command = ['bash', ROOT / 'tools/dist_train.sh', CONFIG, processes]
        env = dict(PORT=str(free_port()), CUDA_VISIBLE_DEVICES='')
        output = call(*command, *arguments, cwd=tmp_path, **env)
        assert f'{16 // processes} images = 16, as the recipe says' in output
        finals.append(torch.load(work_dir / 'epoch_1.pth', weights_only=False)['state_dict'])
    for key, value in finals[0].items():
        assert torch.allclose(value, finals[1][key], atol=2e-5), key


def test_a_teachers_file(tool, tmp_path):
    config = ROOT / 'configs/teachers/clip_vittiny_scenes.py'
    few = {
        'train_dataloader.batch_size': 8,
        'train_dataloader.sampler.total_batch': 8,
        'train_dataloader.dataset.count': 16,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'val_dataloader.dataset.count': 8,
        'val_dataloader.num_workers': 0,
        'train_cfg.max_epochs': 1,
    }
    out = tmp_path / 'teacher.safetensors'
    chosen = [f'{key}={value}' for key, value in few.items()]
    output = tool('train_teacher.py', config, '--work-dir', tmp_path, '--out', out, '--cfg-options', *chosen)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert f'Teacher written to {out} ' in output and f'sha256 {digest}' in output
    teacher = CLIPTargetGenerator(config.with_suffix('.json'), out, patch_size=8)
    assert teacher(torch.zeros(1, 3, 64, 64)).shape == (1, 65, teacher.out_channels)


def test_teachers_are_tabulated(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(logging, 'disable', lambda level: None)  # which the tool leaves so
    names, out, page = tmp_path / 'names.txt', tmp_path / 'teachers.csv', tmp_path / 'page.md'
    names.write_text('vit_tiny_patch16_224\nvit_small_patch16_224\nresnet18\n')
    page.write_text('before\n<!-- begin: list_teachers -->\nold\n<!-- end: list_teachers -->\nafter\n')
    chosen = ['--libraries', 'timm', '--names', names, '--out', out, '--docs', page]
    tool('analysis_tools/list_teachers.py', *chosen)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ('before', 'after') and 'old' not in lines
    assert '| timm | vision_transformer | 2 | `vit_tiny_patch16_224` | hidden | 14x14 |' in page.read_text()
    with out.open(newline='') as file:
        assert [row['model'] for row in csv.DictReader(file)] == names.read_text().split()
    assert trunc_normal_(torch.full((9,), torch.nan)).isfinite().all()  # timm initialises again


def test_benchmarks_write_what_they_find(tool, tmp_path, monkeypatch):
    """Their measuring is tested in tests/test_benchmarks."""
    given = {}

    def measured(**options):
        given.update(options)
        return '## as measured'

    monkeypatch.setattr('benchmarks.evaluators_cost.train_seconds', lambda *_: 2.0)
    monkeypatch.setattr('benchmarks.pretrain_report.benchmark_pretrain', measured)
    monkeypatch.setattr('benchmarks.segmentation_report.benchmark_segmentation', measured)
    for name, chosen in (
        ('evaluators', ['--rounds', '2', '--steps', '10']),
        ('pretrain', ['--device', 'cpu', '--arch', 'large', '--peers', 'plain']),
        ('segmentation', ['--device', 'cpu', '--one-heap']),
    ):
        out = tmp_path / f'{name}.md'
        tool(f'analysis_tools/benchmark_{name}.py', *chosen, '--out', out)
        assert ('| 320 | 1.000 |' if name == 'evaluators' else '## as measured') in out.read_text()
    assert given['batch'] == 2 and given['rounds'] == 3 and given['one_heap']
    assert given['arch'] == 'large' and given['peers'] == ['plain']


def test_memory_is_counted(tool):
    config = ROOT / 'configs/rils/vittiny_scenes.py'
    table = tool('analysis_tools/count_memory.py', config, '--total', 8, '--gpus', 2)
    assert table.splitlines()[-1].startswith('| vittiny_scenes | 2 x 4 |')
