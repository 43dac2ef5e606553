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
from mvp_mm.weights.fill_model import fill_whole, start_from

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


@pytest.mark.parametrize('tool', ['test', 'resume', 'segment', 'knn', 'init_cfg', 'load_from'])
@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('hello, I am no checkpoint\n', "it is text that begins 'hello, I am no checkpoint'"),
        ('eof', "it is text that begins 'eof'"),
        ('', 'it is empty'),
        (None, 'is a folder'),
    ],
)
def test_no_checkpoint_at_all(tool, content, message, labelled, error_of, tmp_path):
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
    assert message in line and str(path) in line and '(101)' not in line


def test_a_folder_with_checkpoints_names_the_last(error_of, tmp_path):
    (tmp_path / 'epoch_3.pth').touch()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
    line = error_of('test.py', PRETRAINING, tmp_path)
    assert 'is a folder: give the checkpoint file in it, such as epoch_3.pth' in line
    line = error_of('test.py', PRETRAINING, tmp_path / 'epoch_9.pth')
    assert 'epoch_9.pth; beside it there is: epoch_3.pth' in line


def test_another_scheme(error_of):
    line = error_of('test.py', PRETRAINING, 's3://bucket/a.pth')
    assert 's3://bucket/a.pth cannot be read: give a file, or an http(s) address' in line


def test_weights_alone_are_not_gone_on_from(pretrained, labelled, error_of):
    data = [f'train_dataloader.dataset.data_root={labelled}', 'train_dataloader.num_workers=0']
    line = error_of('train.py', PRETRAINING, '--resume', pretrained, '--cfg-options', *data)
    assert 'has weights but no message_hub, no optimizer, so training cannot go on from it' in line


def tiny_classifier(num_classes=2, **backbone):
    arch = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
    backbone = {**dict(type='MVPViT', arch=arch, img_size=32, patch_size=8), **backbone}
    head = dict(type='LinearClsHead', num_classes=num_classes, in_channels=24)
    return MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head))


def student():
    """What pre-training saves of the same size."""
    shared = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True, out_type='raw', final_norm=True)
    vit = tiny_classifier(**shared).backbone
    nn.init.normal_(vit.rel_pos_bias.relative_position_bias_table)
    return {f'backbone.{name}': value for name, value in vit.state_dict().items()}


class TestLoadFrom:
    """``load_from`` before training: the backbone wholly or not at all, and no random tables."""

    @pytest.mark.parametrize('prefix', ['backbone.', ''])
    def test_a_pretraining_checkpoint(self, prefix):
        weights = student()
        model = tiny_classifier()
        head = model.head.fc.weight.clone()
        start_from(model, {name.replace('backbone.', prefix): v for name, v in weights.items()}, 'a.pth')
        for layer in model.backbone.layers:
            assert torch.equal(
                layer.attn.relative_position_bias_table, weights[f'backbone.rel_pos_bias.{TABLE}']
            )
        assert torch.equal(model.head.fc.weight, head)

    def test_a_classifier_of_other_classes(self):
        source, model = tiny_classifier(5), tiny_classifier()
        start_from(model, source.state_dict(), 'a.pth')
        assert torch.equal(model.backbone.cls_token, source.backbone.cls_token)

    def test_without_tables(self):
        weights = tiny_classifier().state_dict()
        del weights[f'backbone.layers.1.attn.{TABLE}']
        with pytest.raises(ValueError, match=f'a.pth does not fit: it has no layers.1.attn.{TABLE}'):
            start_from(tiny_classifier(), weights, 'a.pth')

    def test_nothing_fits(self):
        model = nn.Module()
        model.backbone = nn.Linear(2, 2)
        with pytest.raises(
            ValueError, match='of 2 entries of the model, such as backbone.weight, it has none'
        ):
            start_from(model, {'other.weight': torch.zeros(2, 2)}, 'a.pth')

    def test_in_a_run(self, pretrained, labelled, tmp_path):
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


class TestWhole:
    """What evaluating and resuming ask of a checkpoint."""

    def test_fits(self):
        source, model = tiny_classifier(), tiny_classifier()
        fill_whole(model, source.state_dict(), 'a.pth')
        assert all(torch.equal(a, b) for a, b in zip(source.parameters(), model.parameters(), strict=True))

    def test_other_classes(self):
        with pytest.raises(
            ValueError, match=r'a.pth does not fit: size mismatch for head.fc.weight.*\[5, 24\]'
        ):
            fill_whole(tiny_classifier(), tiny_classifier(5).state_dict(), 'a.pth')

    def test_a_bare_backbone(self):
        with pytest.raises(
            ValueError, match='it has no backbone, no head: it is a bare backbone; train first'
        ):
            fill_whole(tiny_classifier(), tiny_classifier().backbone.state_dict(), 'a.pth')

    def test_one_entry_less_and_one_more(self):
        weights = tiny_classifier().state_dict()
        fc = weights.pop('head.fc.bias')
        with pytest.raises(ValueError, match=r'it has no head.fc.bias \(1 are missing\)'):
            fill_whole(tiny_classifier(), weights, 'a.pth')
        weights |= {'head.fc.bias': fc, 'backbone.layers.2.ln1.weight': torch.ones(24)}
        with pytest.raises(
            ValueError, match='it has backbone.layers.2.ln1.weight, for which the model has no'
        ):
            fill_whole(tiny_classifier(), weights, 'a.pth')

    def test_something_else(self):
        with pytest.raises(ValueError, match='no vision transformer; it holds conv, fc'):
            fill_whole(tiny_classifier(), {'conv.weight': torch.ones(1), 'fc.bias': torch.ones(1)}, 'a.pth')

    def test_another_grid(self):
        source, larger = tiny_classifier(), tiny_classifier(img_size=64)
        fill_whole(larger, source.state_dict(), 'a.pth')
        assert torch.equal(larger.backbone.cls_token, source.backbone.cls_token)
