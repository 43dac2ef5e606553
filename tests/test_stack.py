"""Versions, noise, configs and the wheel."""

import logging
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from mvp_mm import stack

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def run(code, cwd=None, **env):
    env = {**os.environ, 'PYTHONPATH': str(ROOT), **env}
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=cwd, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_too_old_and_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(stack.REQUIRED, 'timm', '999.1')
    with pytest.raises(ImportError, match=r'needs timm>=999.1, but timm 1\.\S+ is installed.*pip install'):
        stack.check_versions()
    monkeypatch.setitem(stack.REQUIRED, 'timm', '0.1')
    monkeypatch.setitem(stack.REQUIRED, 'no_such_package', '2.0')
    with pytest.raises(
        ImportError, match=r'needs no_such_package>=2.0, but no_such_package is not installed'
    ):
        stack.check_versions()
    monkeypatch.delitem(stack.REQUIRED, 'no_such_package')
    monkeypatch.setattr(stack, 'REQUIRED_PRESENT', ('no_such_package',))
    with pytest.raises(ImportError, match='needs no_such_package, but'):
        stack.check_versions()


@pytest.mark.parametrize('version,kept', [('4.57.6', True), ('5.0.0', False)])
def test_multimodal_models_are_left_out_beside_transformers_5(version, kept, monkeypatch):
    """mmpretrain builds them where pycocotools is installed, and transformers 5 lacks what they import."""
    from mmpretrain.utils import dependency

    monkeypatch.setattr(dependency, 'distribution', lambda name: SimpleNamespace(version=version))
    monkeypatch.setattr(dependency, 'WITH_MULTIMODAL', True)
    stack.leave_out_multimodal()
    assert dependency.WITH_MULTIMODAL is kept


def test_import_is_quiet_and_builds_nothing():
    output = run(
        'import torch\n'
        'def forbidden(*args, **kwargs): raise AssertionError("a model was built")\n'
        'torch.nn.Linear.__init__ = torch.nn.Conv2d.__init__ = forbidden\n'
        'import socket\n'
        'socket.socket.connect = forbidden\n'
        'import mvp_mm\n'
        'print(mvp_mm.__version__)'
    )
    from mvp_mm import __version__

    assert output.strip() == __version__


def test_only_the_named_noise_is_dropped(capsys):
    with stack.quiet_stack_noise():
        print('before')
        print(*stack.PRINTED_NOISE, sep='\n')
        print('after')
        print()
        print(f'{stack.PRINTED_NOISE[0]} and more')
    assert capsys.readouterr().out == f'before\nafter\n\n{stack.PRINTED_NOISE[0]} and more\n'


def test_only_the_stacks_own_warnings_are_hidden():
    hidden = {
        'Detected call of `scheduler.step()` before `optimizer.step()`': UserWarning,
        'old': FutureWarning,
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        stack.hide_stack_warnings()
        for message, category in hidden.items():
            warnings.warn_explicit(message, category, 'layers.py', 1, module='timm.models.layers')
        warnings.warn_explicit('old', FutureWarning, 'mine.py', 1, module='timmy')
        warnings.warn_explicit('batch of one', UserWarning, 'layers.py', 1, module='torch.nn')
    assert [str(warning.message) for warning in caught] == ['old', 'batch of one']
    for message, shown in (('"FileClient" will be deprecated', False), ('Total batch', True)):
        record = logging.LogRecord('mmengine', logging.WARNING, 'f.py', 1, message, None, None)
        assert stack.is_no_stack_noise(record) == shown


def test_wheel_carries_the_configs(tmp_path):
    """Installed from a wheel, ``mvp_mm::`` resolves from any folder."""
    pytest.importorskip('setuptools')
    command = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-q']
    clone = tmp_path / 'clone'  # a build leaves files behind
    left_out = shutil.ignore_patterns(
        *('.*[!m]', 'build', 'work_dirs', 'tests', 'docs', '*.egg-info', '__pycache__'),
        *('data', 'pretrained', 'venv', 'env'),
    )
    shutil.copytree(ROOT, clone, symlinks=True, ignore=left_out)
    done = subprocess.run(
        [*command, '-w', str(tmp_path), str(clone)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob('mvp_mm-*.whl')
    site = tmp_path / 'site'
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(site)
    configs = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('*.py'))
    shipped = {name.removeprefix('mvp_mm/.mim/') for name in names if name.startswith('mvp_mm/.mim/')}
    assert set(configs) <= shipped
    assert {'tools/train.py', 'tools/dist_train.sh', 'model-index.yml'} <= shipped
    assert 'configs/mvp/tiny_clip.json' in shipped
    assert not any('__pycache__' in name for name in names)
    # neither tests nor benchmarks, experiments and fault injection, nor the tools that need these
    assert {name.split('/')[0] for name in names if '.dist-info' not in name} == {
        'mvp_mm',
        'mvp_mm_command.py',
    }
    developers = {
        'analysis_tools',
        'reproduce_miniature.py',
        'reproduce_photographs.py',
        'demonstrate.py',
        'quickstart.sh',
        'run_tests.sh',
    }
    assert not {name.split('/')[1] for name in shipped if name.startswith('tools/')} & developers
    assert 'mvp_mm/py.typed' in names
    # A launcher finds all that it needs beside it.
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin/python').write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / 'bin/python').chmod(0o755)
    launched = subprocess.run(
        [
            'bash',
            site / 'mvp_mm/.mim/tools/dist_train.sh',
            site / 'mvp_mm/.mim/configs/mvp/vitb16_in1k.py',
            '2',
        ],
        env=dict(PATH=f'{tmp_path}/bin:{os.environ["PATH"]}', OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
    )
    assert launched.returncode == 0 and '--nproc_per_node 2' in launched.stdout, launched.stderr
    mine = tmp_path / 'mine.py'
    mine.write_text("_base_ = 'mvp_mm::mvp/vittiny_debug.py'\n")
    output = run(
        'import mvp_mm; from mmengine.config import Config\n'
        f'cfg = Config.fromfile({str(mine)!r})\n'
        'from mmpretrain.registry import MODELS\n'
        'model = MODELS.build(cfg.model)\n'
        'print(mvp_mm.__file__, type(model).__name__)',
        cwd=tmp_path,
        PYTHONPATH=str(site),
    )
    assert f'{site}/mvp_mm/__init__.py MVP' in output
