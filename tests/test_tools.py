"""The command lines, as a user calls them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mvp_mm.datasets.scenes import SceneCollection

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / 'configs/mvp/vittiny_debug.py')


def call(*command, cwd=None, expect=0, **env):
    """Run a command with this interpreter first on PATH; return all it printed."""
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    env = {**os.environ, 'PATH': path, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **env}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    output = done.stdout + done.stderr
    assert done.returncode == expect if expect is not None else done.returncode != 0, output
    return output


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
    output = call(
        sys.executable,
        ROOT / 'tools/train.py',
        CONFIG,
        '--work-dir',
        work_dir,
        *options(images),
        cwd=work_dir,
    )
    return work_dir, output


def test_rendered_images(images):
    files = sorted(images.glob('*.png'))
    assert len(files) == 32
    from PIL import Image

    assert Image.open(files[7]).tobytes() == SceneCollection('train', 32, 80)[7][0].tobytes()


def test_train_prints_and_saves(trained):
    work_dir, output = trained
    losses = [float(value) for value in re.findall(r' loss: (-?\d+\.\d+)', output)]
    assert len(losses) == 8 and all(-1 <= loss <= 1 for loss in losses)
    for word in ('eta: ', 'images_per_second: ', 'host_memory: ', 'cosine_cls: ', 'cosine_masked: '):
        assert word in output, word
    assert 'Total batch: 1 process x 8 images x 2 accumulated iterations = 16, as the recipe says.' in output
    assert 'RANDOM weights' in output
    assert 'OneDL' not in output and 'MultiScaleDeformableAttention' not in output
    state = torch.load(work_dir / 'epoch_2.pth', weights_only=False)['state_dict']
    assert {key.split('.')[0] for key in state} == {'backbone', 'neck'}
    (log,) = work_dir.glob('*/vis_data/*_*.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row['loss'] for row in rows] == pytest.approx(losses, abs=1e-4)
    assert list(work_dir.rglob('events.out.tfevents*'))


def test_resume_goes_on(trained, images):
    work_dir, _ = trained
    more = options(images, **{'train_cfg.max_epochs': 3})
    output = call(
        sys.executable,
        ROOT / 'tools/train.py',
        CONFIG,
        '--work-dir',
        work_dir,
        '--resume',
        *more,
        cwd=work_dir,
    )
    assert 'resumed epoch: 2' in output
    assert re.findall(r'Epoch\(train\)\s+\[(\d)\]', output) == ['3'] * 4


def test_test_reports_the_cosines(trained, images, tmp_path):
    work_dir, _ = trained
    out = tmp_path / 'metrics.json'
    call(
        sys.executable,
        ROOT / 'tools/test.py',
        CONFIG,
        work_dir / 'epoch_2.pth',
        '--out',
        out,
        '--work-dir',
        tmp_path,
        *options(images),
        cwd=tmp_path,
    )
    figures = json.loads(out.read_text())
    assert set(figures) == {
        f'target_cosine/{name}'
        for name in ('cosine', 'cls', 'visible', 'masked', 'constant', 'excess', 'shuffled')
    }
    assert all(-1 <= value <= 1 for value in figures.values())


def test_amp_trains_in_bf16(images, tmp_path):
    output = call(
        sys.executable,
        ROOT / 'tools/train.py',
        CONFIG,
        '--amp',
        '--work-dir',
        tmp_path,
        *options(images, **{'train_cfg.max_epochs': 1}),
        cwd=tmp_path,
    )
    losses = [float(value) for value in re.findall(r' loss: (-?\d+\.\d+)', output)]
    assert len(losses) == 4 and all(-1 <= loss <= 1 for loss in losses)
    assert "precision='bfloat16'" in (tmp_path / 'vittiny_debug.py').read_text()


def test_two_processes(images, tmp_path):
    """The total batch is kept, so one process and two see the same data and end at the same weights."""
    finals = []
    for processes in (1, 2):
        work_dir = tmp_path / str(processes)
        output = call(
            'bash',
            ROOT / 'tools/dist_train.sh',
            CONFIG,
            processes,
            '--work-dir',
            work_dir,
            *options(
                images,
                **{
                    'train_dataloader.batch_size': 16 // processes,
                    'model.backbone.drop_path_rate': 0.0,
                    'train_cfg.max_epochs': 1,
                },
            ),
            cwd=tmp_path,
            PORT=str(29600 + os.getpid() % 1000),
            CUDA_VISIBLE_DEVICES='',
        )
        assert f'{16 // processes} images = 16, as the recipe says' in output
        finals.append(torch.load(work_dir / 'epoch_1.pth', weights_only=False)['state_dict'])
    for key, value in finals[0].items():
        assert torch.allclose(value, finals[1][key], atol=2e-5), key


@pytest.mark.parametrize(
    'arguments,message',
    [
        ([CONFIG, *options('no/such/folder')], 'there is no image folder no/such/folder'),
        (['no_config.py'], 'there is no config file no_config.py'),
        ([CONFIG, '--resume', 'gone.pth'], 'there is no checkpoint file gone.pth'),
        ([CONFIG, *options('.')], 'no image found below'),
        (
            [CONFIG, *options('.', **{'model.target_generator.model_name': 'ViT-X'})],
            "open_clip knows no model 'ViT-X'",
        ),
    ],
)
def test_errors(arguments, message, tmp_path):
    output = call(sys.executable, ROOT / 'tools/train.py', *arguments, cwd=tmp_path, expect=None)
    assert message in output.split('ERROR: ')[-1] and 'Traceback' not in output
