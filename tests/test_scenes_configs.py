"""The configs on the embedded scenes run at a few steps, from teacher to segmentation."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS, MODELS
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn import functional as F

from mvp_mm.engine import build_runner, save_teacher
from mvp_mm.models import CLIPTargetGenerator, TimmTargetGenerator

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[1] / 'configs'
PRETRAINING = sorted(path.name for path in (CONFIGS / 'mvp').glob('*tiny_scenes*.py'))


def load(name, work_dir, **train_cfg):
    """A config shortened to two steps of four scenes."""
    cfg = Config.fromfile(CONFIGS / name)
    cfg.work_dir = str(work_dir)
    cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.count = 8
    if 'total_batch' in cfg.train_dataloader.sampler:
        cfg.train_dataloader.sampler.total_batch = 4
    cfg.auto_scale_lr.base_batch_size = 4
    for phase in ('val', 'test'):
        loader = cfg.get(f'{phase}_dataloader')
        if loader:
            loader.update(num_workers=0, persistent_workers=False)
            loader.dataset.count = 8
    cfg.train_cfg.update(train_cfg)
    cfg.default_hooks.logger.interval = 1
    return cfg


def logged(runner):
    (path,) = Path(runner.log_dir).glob('vis_data/*_*.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def log_lines(runner):
    (path,) = Path(runner.log_dir).glob('*.log')
    return path.read_text().splitlines()


@pytest.mark.parametrize('name', PRETRAINING)
def test_pretraining(name, tmp_path):
    cfg = load(f'mvp/{name}', tmp_path, max_epochs=1)
    generator = cfg.model.get('target_generator', {})
    for teacher in generator.get('teachers', {'': generator}).values():
        if teacher.get('pretrained'):
            teacher.pretrained = None
    runner = build_runner(cfg)
    runner.train()
    assert runner.iter == 2
    losses = [line['loss'] for line in logged(runner) if 'loss' in line]
    assert len(losses) == 2 and all(torch.isfinite(torch.tensor(losses)))
    if cfg.get('val_evaluator'):
        validation = next(line for line in logged(runner) if 'target_cosine/excess' in line)
        excess = validation['target_cosine/cosine'] - validation['target_cosine/constant']
        assert validation['target_cosine/excess'] == pytest.approx(excess, abs=1e-5)


@pytest.mark.parametrize('name', ['coop', 'cocoop'])
def test_prompts(name, tmp_path):
    cfg = load(f'prompts/{name}_scenes.py', tmp_path, max_epochs=1, val_interval=1)
    batch = cfg.auto_scale_lr.base_batch_size = cfg.train_dataloader.batch_size = 1 if name == 'cocoop' else 4
    cfg.train_dataloader.sampler.total_batch = batch
    dataset = cfg.train_dataloader.dataset
    dataset.pop('count')
    dataset.shots, dataset.dataset.count = 1, 2 * batch * 2  # about half of them are base
    cfg.val_dataloader.dataset.count = 40
    runner = build_runner(cfg)
    before = runner.model.prompts.context.detach().clone()
    runner.train()
    assert (runner.model.prompts.context.cpu() != before.cpu()).any()
    (found,) = [line for line in logged(runner) if 'base_to_new/H' in line]
    assert all(0 <= found[f'base_to_new/{key}'] <= 100 for key in ('base', 'new', 'H', 'all'))
    assert any(line.endswith('kB)') and 'prompts.safetensors' in line for line in log_lines(runner))
    assert any('Nearest words' in line for line in log_lines(runner))


@pytest.mark.parametrize('frozen', [False, True])
def test_segmentation_from_a_student(frozen, student, tmp_path):
    cfg = load('upernet/vittiny_scenes.py', tmp_path, max_iters=2, val_interval=2)
    cfg.model.backbone.init_cfg.checkpoint = student
    if frozen:
        cfg.model.backbone.frozen_stages = 4
    runner = build_runner(cfg)
    runner.train()
    assert any('mIoU' in line for line in logged(runner))
    kept = torch.load(student, weights_only=False)['state_dict']['backbone.layers.2.ffn.layers.0.0.weight']
    same = torch.equal(runner.model.backbone.layers[2].ffn.layers[0][0].weight, kept)
    assert same == frozen


def test_clip_teacher_learns_resumes_and_is_loaded(tmp_path):
    cfg = load('teachers/clip_vittiny_scenes.py', tmp_path / 'first', max_epochs=1)
    build_runner(cfg).train()
    # another folder: two runs of one folder share a log if they begin in one second
    cfg = load('teachers/clip_vittiny_scenes.py', tmp_path / 'second', max_epochs=2)
    cfg.resume = True
    cfg.load_from = str(tmp_path / 'first/epoch_1.pth')
    runner = build_runner(cfg)
    runner.train()
    assert runner.iter == 4
    validation = [line for line in logged(runner) if 'zero_shot/shape' in line]
    assert (
        len(validation) == 2
    )  # that of the first epoch, which its checkpoint knows nothing of, is made up for
    assert 0 <= validation[-1]['zero_shot/colour'] <= 100
    printed = [line for line in log_lines(runner) if 'Epoch(val)' in line and 'zero_shot/shape' in line]
    assert len(printed) == 2
    for line in printed:
        assert re.findall(r'([\w/]+): ', line) == ['zero_shot/shape', 'zero_shot/colour', 'data_time', 'time']
    path = tmp_path / 'teacher.safetensors'
    digest = save_teacher(runner, path)
    assert len(digest) == 64 and not list(tmp_path.glob('.*.safetensors'))
    with safe_open(path, 'pt') as file:
        about = file.metadata()
    assert (
        about['iterations'] == '4'
        and about['config'] == 'clip_vittiny_scenes.py'
        and 'zero_shot/shape' in about
    )
    generator = CLIPTargetGenerator(
        str(CONFIGS / 'teachers/clip_vittiny_scenes.json'), str(path), patch_size=8
    )
    ours = runner.model.clip.visual.state_dict()
    for key, value in generator.teacher.state_dict().items():
        assert torch.allclose(value, ours[key], atol=1e-3), key


def test_dino_teacher_learns_and_is_loaded(tmp_path):
    pytest.importorskip('lightly', reason='the DINO teacher needs lightly')
    cfg = load('teachers/dino_vittiny_scenes.py', tmp_path, max_epochs=1)
    cfg.model.frozen_epochs = 1
    runner = build_runner(cfg)
    before = {key: value.clone() for key, value in runner.model.teacher.state_dict().items()}
    last_layer = runner.model.head.last_layer.weight_v.detach().clone()
    runner.train()
    after = runner.model.head.last_layer.weight_v
    # but for its length, which nothing sees
    assert torch.allclose(F.normalize(after, dim=1), F.normalize(last_layer, dim=1)), 'it stands still'
    cfg = load('teachers/dino_vittiny_scenes.py', tmp_path, max_epochs=2)
    cfg.model.frozen_epochs = 1
    cfg.resume = True
    runner = build_runner(cfg)
    runner.train()
    after = runner.model.head.last_layer.weight_v
    assert not torch.allclose(F.normalize(after, dim=1), F.normalize(last_layer, dim=1))
    slow, fast = runner.model.teacher.state_dict(), runner.model.student.state_dict()
    key = 'blocks.1.mlp.fc1.weight'
    assert not torch.equal(slow[key], before[key]) and not torch.equal(slow[key], fast[key])
    assert all(not parameter.requires_grad for parameter in runner.model.teacher.parameters())
    path = tmp_path / 'teacher.safetensors'
    save_teacher(runner, path)
    settings = Config.fromfile(CONFIGS / 'mvp/vittiny_scenes_dino.py').model.target_generator
    settings.pop('type')
    generator = TimmTargetGenerator(**{**settings, 'pretrained': str(path)})
    images = torch.randn(2, 3, 64, 64)  # normalised by ImageNet's statistics, which both use
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        expected = runner.model(images)
    assert torch.allclose(generator(images)[:, 0], expected, atol=2e-2)


def test_other_models_are_no_teachers(tmp_path):
    cfg = load('mvp/vittiny_scenes_pixel.py', tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match='MVP is no teacher to save'):
        save_teacher(build_runner(cfg), tmp_path / 'x.safetensors')


@pytest.fixture(scope='module')
def student(tmp_path_factory):
    folder = tmp_path_factory.mktemp('student')
    build_runner(load('mvp/vittiny_scenes_pixel.py', folder, max_epochs=1)).train()
    return str(folder / 'epoch_1.pth')


@pytest.mark.parametrize(
    ('name', 'metric'),
    [
        ('linear_probe/vittiny_scenes.py', 'linear_probe/top1'),
        ('finetune/vittiny_scenes.py', 'accuracy/top1'),
    ],
)
def test_classification(name, metric, student, tmp_path):
    cfg = load(name, tmp_path, max_epochs=1, val_interval=1)
    cfg.model.backbone.init_cfg.checkpoint = student
    runner = build_runner(cfg)
    runner.train()
    assert runner.iter == 2 and any(metric in line for line in logged(runner))


def test_knn(student, tmp_path, monkeypatch):
    out = tmp_path / 'knn.json'
    options = [f'{phase}_dataloader.dataset.count=12' for phase in ('train', 'val')]
    command = ['knn.py', str(CONFIGS / 'finetune/vittiny_scenes.py'), student, '--out', str(out)]
    monkeypatch.setattr(sys, 'argv', [*command, '--k', '3', '--cfg-options', *options])
    runpy.run_path(str(CONFIGS.parent / 'tools/knn.py'), run_name='__main__')
    assert 0 <= json.loads(out.read_text())['3-NN']['top1'] <= 100


def test_shipped_clip_knows_shapes_and_colours():
    cfg = Config.fromfile(CONFIGS / 'teachers/clip_vittiny_scenes.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        teacher = MODELS.build(cfg.model).eval()
        teacher.clip.load_state_dict(load_file(CONFIGS / 'teachers/clip_vittiny_scenes.safetensors'))
        dataset = DATASETS.build(dict(cfg.val_dataloader.dataset, count=250))
    batch = default_collate([dataset[i] for i in range(250)])
    with torch.no_grad():
        samples = teacher.predict(teacher.data_preprocessor(batch)['inputs'], batch['data_samples'])
    hits = {
        name: sum(int(sample.get(f'{name}_scores').argmax()) == sample.get(name) for sample in samples) / 250
        for name in ('shape', 'colour')
    }
    assert hits['shape'] > 0.4 and hits['colour'] > 0.85, hits  # chance: 0.125


def test_shipped_clip_is_the_teacher_of_the_scenes_config():
    settings = Config.fromfile(CONFIGS / 'mvp/vittiny_scenes.py').model.target_generator
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        generator = MODELS.build(settings)
    weights = load_file(CONFIGS / 'teachers/clip_vittiny_scenes.safetensors')
    for name, value in generator.teacher.state_dict().items():
        assert torch.equal(value, weights[f'visual.{name}'].float()), name


def test_a_convolutional_student_from_pre_training_to_segmentation(tmp_path):
    cfg = load('mvp/convtiny_scenes.py', tmp_path / 'mvp', max_epochs=1)
    cfg.train_dataloader.dataset.pipeline[3].num_masking_patches = 0  # feature distillation
    build_runner(cfg).train()
    cfg = load('upernet/convtiny_scenes.py', tmp_path / 'upernet', max_iters=2, val_interval=2)
    cfg.model.backbone.init_cfg.checkpoint = str(tmp_path / 'mvp/epoch_1.pth')
    cfg.model.backbone.frozen_stages = 4
    runner = build_runner(cfg)
    runner.train()
    assert any('mIoU' in line for line in logged(runner))
    kept = torch.load(tmp_path / 'mvp/epoch_1.pth', weights_only=False)['state_dict']
    name = 'network.stages.2.blocks.0.mlp.fc1.weight'
    assert torch.equal(runner.model.backbone.state_dict()[name], kept[f'backbone.{name}'])
