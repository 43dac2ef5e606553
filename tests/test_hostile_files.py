"""A pickle that would create a file, offered wherever this package loads a checkpoint, creates nothing."""

import pickle
import runpy
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from PIL import Image
from torch import nn

import mvp_mm

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PRETRAINING = ROOT / 'configs/mvp/vittiny_debug.py'
CLASSIFIER = ROOT / 'configs/finetune/vittiny_debug.py'
SEGMENTOR = ROOT / 'configs/upernet/vittiny_camvid.py'
KINDS = ('bare', 'beside weights', 'old format', 'config in meta', 'TorchScript')


class Bomb:
    """Creates a file when it is unpickled as pickles usually are."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def whole(config):
    """A checkpoint that fits, so that nothing but the bomb is wrong with the file."""
    cfg = Config.fromfile(config)
    cfg.model.backbone.init_cfg = None
    if 'head' in cfg.model:
        cfg.model.head.num_classes = 2
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        state = MODELS.build(cfg.model).state_dict()
    return dict(meta={}, message_hub=dict(log_scalars={}), state_dict=state)


def write_hostile(path, kind, checkpoint, target):
    """A checkpoint that would create ``target``, with the objects that MMEngine's own ones have."""
    checkpoint['message_hub']['log_scalars']['train/loss'] = HistoryBuffer([1.0], [1])
    checkpoint['meta']['score'] = np.float64(1)
    if kind == 'bare':
        path.write_bytes(pickle.dumps(Bomb(target)))
    elif kind == 'TorchScript':
        torch.jit.trace(nn.Linear(1, 1), torch.zeros(1, 1)).save(str(path))
    elif kind == 'config in meta':  # MMEngine's resume runs it
        checkpoint['meta']['config'] = f'import pathlib\npathlib.Path({str(target)!r}).touch()\n'
        torch.save(checkpoint, path)
    else:
        new = kind == 'beside weights'
        torch.save(dict(checkpoint, bomb=Bomb(target)), path, _use_new_zipfile_serialization=new)


def test_the_bomb_goes_off(tmp_path):
    """Else the tests below would show nothing."""
    target, path = tmp_path / 'created', tmp_path / 'a.pth'
    for kind in ('beside weights', 'old format'):
        write_hostile(path, kind, whole(SEGMENTOR), target)
        torch.load(path, weights_only=False)
        assert target.exists()
        target.unlink()


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """One folder that is good for pre-training and for two classes."""
    root = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name in ('a', 'b'):
            (root / split / name).mkdir(parents=True)
            for number in range(8):
                pixels = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f'{number}.png')
    return root


@pytest.fixture(scope='module')
def trained(images, tmp_path_factory):
    """A checkpoint that training can go on from."""
    cfg = mvp_mm.engine.load_config(str(PRETRAINING), str(tmp_path_factory.mktemp('trained')))
    cfg.train_dataloader.dataset.data_root = str(images)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.train_cfg.max_epochs = 1
    mvp_mm.engine.build_runner(cfg).train()
    return Path(cfg.work_dir) / 'epoch_1.pth'


@pytest.fixture
def tool(images, tmp_path, monkeypatch):
    """Run a tool as a user does; return what it ends with, None or its error."""

    def run(name, *arguments, options=()):
        command = [name, *arguments]
        if name != 'segment.py':
            pretraining = PRETRAINING in arguments
            loaders = ('train', 'test') if pretraining else ('train', 'val', 'test')
            options = [*options, 'train_cfg.max_epochs=2']
            options += [f'{loader}_dataloader.dataset.data_root={images}' for loader in loaders]
            options += [f'{loader}_dataloader.num_workers=0' for loader in loaders]
            options += [] if pretraining else ['model.head.num_classes=2']
            command += ['--work-dir', tmp_path / 'run', '--cfg-options', *options]
        monkeypatch.setattr(sys, 'argv', [str(part) for part in command])
        try:
            runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
        except SystemExit as error:
            return str(error)
        return None

    return run


# Every way ends in the same reader: each kind of file by one way, and every way with one kind of file.
WAYS = ('test', 'load_from', 'resume explicit', 'resume auto', 'init_cfg', 'segment', 'knn')
CASES = [(way, 'beside weights') for way in WAYS] + [
    ('resume explicit', kind) for kind in KINDS if kind != KINDS[1]
]


@pytest.mark.parametrize(('way', 'kind'), CASES)
def test_tools(way, kind, tool, images, trained, tmp_path):
    target, path = tmp_path / 'created', tmp_path / 'evil.pth'
    config = {'segment': SEGMENTOR, 'knn': CLASSIFIER, 'init_cfg': CLASSIFIER}.get(way, PRETRAINING)
    good = torch.load(trained, weights_only=True) if config == PRETRAINING else whole(config)
    write_hostile(path, kind, good, target)
    if way == 'test':
        error = tool('test.py', config, path)
    elif way == 'load_from':
        error = tool('train.py', config, options=[f'load_from={path}'])
    elif way == 'resume explicit':
        error = tool('train.py', config, '--resume', path)
    elif way == 'resume auto':
        (tmp_path / 'run').mkdir()
        path = path.rename(tmp_path / 'run/epoch_1.pth')
        (tmp_path / 'run/last_checkpoint').write_text(str(path))
        error = tool('train.py', config, '--resume')
    elif way == 'init_cfg':
        error = tool('train.py', config, options=[f'model.backbone.init_cfg.checkpoint={path}'])
    elif way == 'knn':
        error = tool('knn.py', config, path, '--device', 'cpu', '--k', 1)
    else:
        image = next(images.rglob('*.png'))
        out = tmp_path / 'out'
        error = tool(
            'segment.py', image, '--config', config, '--checkpoint', path, '--out', out, '--device', 'cpu'
        )
    assert not target.exists()
    # What is good in a file is used, without what is beside it.
    if kind in ('bare', 'TorchScript'):
        assert error is not None and error.startswith('\nERROR: ')
    else:
        assert error is None


@pytest.mark.parametrize('kind', ['bare', 'beside weights'])
def test_get_model(kind, tmp_path):
    target, path = tmp_path / 'created', tmp_path / 'evil.pth'
    state = mvp_mm.get_model('finetune_vittiny_debug').state_dict()
    write_hostile(path, kind, whole(CLASSIFIER) | dict(state_dict=state), target)
    if kind in ('bare', 'TorchScript'):
        with pytest.raises(ValueError, match='evil.pth is no plain weight file'):
            mvp_mm.get_model('finetune_vittiny_debug', pretrained=str(path))
    else:
        model = mvp_mm.get_model('finetune_vittiny_debug', pretrained=str(path))
        assert torch.equal(model.head.fc.weight, state['head.fc.weight'])
    assert not target.exists()


@pytest.mark.parametrize('kind', KINDS)
def test_mmengines_own_loading(kind, tmp_path):
    """``init_cfg`` of another library's network, and MMEngine's and mmpretrain's functions."""
    from mmengine.runner import load_checkpoint

    class Network(BaseModule):
        def __init__(self, init_cfg=None):
            super().__init__(init_cfg)
            self.layer = nn.Linear(2, 2)

    target, path = tmp_path / 'created', tmp_path / 'evil.pth'
    state = Network().state_dict()
    write_hostile(path, kind, whole(CLASSIFIER) | dict(state_dict=state), target)
    network = Network(dict(type='Pretrained', checkpoint=str(path)))
    for load in (network.init_weights, lambda: load_checkpoint(Network(), str(path))):
        if kind in ('bare', 'TorchScript'):
            with pytest.raises(ValueError):
                load()
        else:
            load()
            assert torch.equal(network.layer.weight, state['layer.weight'])
    assert not target.exists()
