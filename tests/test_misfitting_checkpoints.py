"""Files that are no checkpoint, or not of this model: one line that says what is wrong, and no figures."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image
from torch import nn

from mvp_mm.engine import build_runner, load_config

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PRETRAINING = ROOT / 'configs/mvp/vittiny_debug.py'
CLASSIFIER = ROOT / 'configs/finetune/vittiny_debug.py'
SEGMENTOR = ROOT / 'configs/upernet/vittiny_camvid.py'
TABLE = 'relative_position_bias_table'


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
    """A checkpoint as configs/mvp/vittiny_debug.py saves it."""
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(PRETRAINING).model)
    nn.init.normal_(model.backbone.rel_pos_bias.relative_position_bias_table)
    path = tmp_path_factory.mktemp('student') / 'epoch_10.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=10)), path)
    return path


@pytest.fixture
def error_of(monkeypatch, tmp_path):
    """Run a tool; return the one line of error that it ends with."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [name, *(str(argument) for argument in arguments)])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as error:
            runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
        first, line, hint = str(error.value).split('\n')
        assert first == '' and line.startswith('ERROR: ') and hint.startswith('(MVP_MM_TRACEBACK')
        return line

    return run


@pytest.fixture
def camvid(tmp_path):
    """Two images with label maps, in CamVid's layout."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for kind, shape in (('images', (48, 64, 3)), ('annotations', (48, 64))):
            (tmp_path / 'camvid' / kind / split).mkdir(parents=True)
            for number in range(2):
                path = tmp_path / 'camvid' / kind / split / f'{number}.{"jpg" if len(shape) == 3 else "png"}'
                Image.fromarray(rng.integers(0, 11, shape, dtype=np.uint8)).save(path)
    return tmp_path / 'camvid'


@pytest.fixture
def labelled(tmp_path):
    """Eight images of two classes for training, and for validation."""
    for split in ('train', 'val'):
        for name in ('a', 'b'):
            folder = tmp_path / 'labelled' / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                Image.fromarray(np.full((70, 70, 3), number, np.uint8)).save(folder / f'{number}.png')
    return tmp_path / 'labelled'


def test_evaluating_a_pretraining_checkpoint_as_a_segmentor(pretrained, camvid, error_of, tmp_path):
    data = ['--cfg-options', f'test_dataloader.dataset.data_root={camvid}', 'test_dataloader.num_workers=0']
    data += ['test_dataloader.persistent_workers=False']
    out = tmp_path / 'out'
    image = camvid / 'images/val/0.jpg'
    for line in (
        error_of('test.py', SEGMENTOR, pretrained, '--out', out, *data),
        error_of('test.py', SEGMENTOR, pretrained, '--out', out, '--tta', *data),
        error_of('segment.py', image, '--config', SEGMENTOR, '--checkpoint', pretrained, '--out', out),
    ):
        assert 'it has no neck, no decode_head, no auxiliary_head: it is a pre-training checkpoint' in line
        assert f'train first, with --cfg-options model.backbone.init_cfg.checkpoint={pretrained}' in line
    assert not out.exists()


def test_evaluating_a_pretraining_checkpoint_as_a_classifier(pretrained, labelled, error_of):
    data = [f'test_dataloader.dataset.data_root={labelled}', 'model.head.num_classes=2']
    line = error_of(
        'test.py', CLASSIFIER, pretrained, '--cfg-options', *data, 'test_dataloader.num_workers=0'
    )
    assert 'it has no head: it is a pre-training checkpoint' in line


CONTENTS = {
    'hello, I am no checkpoint\n': "it is text that begins 'hello, I am no checkpoint'",
    'eof': "it is text that begins 'eof'",
    '': 'it is empty',
    None: 'is a folder',
}
TOOLS = ('test', 'resume', 'segment', 'knn', 'init_cfg', 'load_from')


@pytest.mark.parametrize(
    ('tool', 'content'), [(tool, 'eof') for tool in TOOLS] + [('test', c) for c in CONTENTS]
)
def test_no_checkpoint_at_all(tool, content, labelled, error_of, tmp_path):
    path = tmp_path / 'given'
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    train = [f'train_dataloader.dataset.data_root={labelled}', 'train_dataloader.num_workers=0']
    train += [f'val_dataloader.dataset.data_root={labelled}', 'model.head.num_classes=2']
    test = [f'test_dataloader.dataset.data_root={labelled}', 'test_dataloader.num_workers=0']
    if tool == 'test':
        line = error_of('test.py', PRETRAINING, path, '--cfg-options', *test)
    elif tool == 'resume':
        line = error_of('train.py', PRETRAINING, '--resume', path, '--cfg-options', *train[:2])
    elif tool == 'segment':
        image = labelled / 'val/a/0.png'
        line = error_of(
            'segment.py', image, '--config', SEGMENTOR, '--checkpoint', path, '--out', tmp_path / 'o'
        )
    elif tool == 'knn':
        line = error_of('knn.py', CLASSIFIER, path, '--device', 'cpu', '--cfg-options', *train)
    else:
        key = 'load_from' if tool == 'load_from' else 'model.backbone.init_cfg.checkpoint'
        line = error_of('train.py', CLASSIFIER, '--cfg-options', *train, f'{key}={path}')
    assert CONTENTS[content] in line and str(path) in line and '(101)' not in line


def test_a_folder_with_checkpoints_names_the_last(error_of, tmp_path):
    (tmp_path / 'epoch_3.pth').touch()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
    (tmp_path / 'bad_batch_iter_5_rank_0.pth').touch()
    line = error_of('test.py', PRETRAINING, tmp_path)
    assert f'pytorch_model.bin: give the weight file, such as {tmp_path}/epoch_3.pth' in line
    line = error_of('test.py', PRETRAINING, tmp_path / 'epoch_9.pth')
    assert 'epoch_9.pth; beside it there is: ' in line and 'epoch_3.pth' in line


def test_another_scheme(error_of):
    line = error_of('test.py', PRETRAINING, 's3://bucket/a.pth')
    assert 's3://bucket/a.pth cannot be read: give a file, or an http(s) or hf:// address' in line


def test_weights_alone_are_not_gone_on_from(pretrained, labelled, error_of):
    data = [f'train_dataloader.dataset.data_root={labelled}', 'train_dataloader.num_workers=0']
    line = error_of('train.py', PRETRAINING, '--resume', pretrained, '--cfg-options', *data)
    assert 'has weights but no message_hub, no optimizer, so training cannot go on from it' in line


def test_load_from_in_a_run(pretrained, labelled, tmp_path):
    """docs/downstream.md: ``load_from`` goes the same way as ``init_cfg``, which need not be given."""
    path = tmp_path / 'a.pth'
    torch.save(dict(state_dict=torch.load(pretrained, weights_only=True)['state_dict']), path)
    options = {'load_from': str(path), 'model.head.num_classes': 2, 'train_cfg.max_epochs': 1}
    for loader in ('train', 'val'):
        options[f'{loader}_dataloader.dataset.data_root'] = str(labelled)
        options[f'{loader}_dataloader.num_workers'] = 0
    options |= {'train_dataloader.batch_size': 2, 'train_dataloader.sampler.total_batch': 2}
    cfg = load_config(str(CLASSIFIER), str(tmp_path / 'run'), cfg_options=options)
    cfg.optim_wrapper.optimizer.lr = 0.0
    runner = build_runner(cfg)
    runner.train()
    table = torch.load(path, weights_only=True)['state_dict'][f'backbone.rel_pos_bias.{TABLE}']
    for layer in runner.model.backbone.layers:
        assert torch.allclose(layer.attn.relative_position_bias_table, table, atol=1e-3)
