"""Every config is built whole, and run for two optimiser steps at debug size through the real runner."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmpretrain.registry import MODELS
from needs_mmdet import as_parameters
from PIL import Image

from mvp_mm.engine import build_runner
from mvp_mm.models.prompts import load_prompts

from .conftest import write_images

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    str(path.relative_to(ROOT / 'configs'))
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
SCENES = [name for name in CONFIGS if '_scenes' in name]  # see test_scenes_configs.py
PHOTOGRAPHS = [name for name in CONFIGS if '_photographs' in name]  # see test_experiments/test_photographs.py
PRETRAINING = [name for name in CONFIGS if name.startswith('mvp/') and name not in SCENES + PHOTOGRAPHS]
# Of several processes only; see test_engine/test_sharded.py.
SHARDED = [name for name in CONFIGS if name.endswith('_fsdp.py')]
# MVP models that have a config of their own; see test_evaluation/test_zero_shot_configs.py.
ZERO_SHOT = [name for name in CONFIGS if name.startswith('zero_shot/')]
PROMPTS = [name for name in CONFIGS if name.startswith('prompts/') and name not in SCENES]
SEGMENTATION = [name for name in CONFIGS if name.startswith('upernet/') and 'tiny' not in name]


def load(name):
    """A config that needs no weights to be had."""
    cfg = Config.fromfile(ROOT / 'configs' / name)
    for teacher in teachers_of(cfg).values():
        teacher.pretrained = None
    cfg.model.backbone.init_cfg = None
    return cfg


def teachers_of(cfg):
    """Configs of the target generators by name; of one alone by ''."""
    generator = cfg.model.get('target_generator')
    return {} if generator is None else generator.get('teachers', {'': generator})


def test_there_are_configs():
    assert {'mvp/vitb16_in1k.py', 'mvp/vitb16_in1k_100e.py', 'mvp/vitl16_in1k.py'} <= set(CONFIGS)
    assert 'mvp/vitb16_in1k_dino.py' in CONFIGS


@pytest.mark.parametrize('name', CONFIGS)
def test_documented(name):
    text = (ROOT / 'configs' / name).read_text()
    docstring = text.split('"""')[1]
    for heading in ('Command:', 'Cost:', 'Expected:', 'Measured:'):
        assert heading in docstring, heading
    assert len(text.splitlines()) < 100


DOWNSTREAM = sorted({*CONFIGS} - {*PRETRAINING, *SCENES, *PHOTOGRAPHS, *PROMPTS, *ZERO_SHOT})


@pytest.mark.parametrize('name', as_parameters(DOWNSTREAM))
def test_downstream_builds_whole(name):
    """The whole model at its real size, without memory for its weights."""
    cfg = load(name)
    with torch.device('meta'), DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = ROOT_MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.backbone.parameters()) > 1e5


@pytest.mark.slow
@pytest.mark.parametrize('name', PRETRAINING)
def test_builds_whole(name):
    cfg = load(name)
    with torch.device('meta'):
        backbone = MODELS.build(cfg.model.backbone)
    assert backbone.embed_dims == cfg.model.neck.in_channels
    generator = MODELS.build(cfg.model.target_generator)
    assert generator.out_channels == cfg.model.neck.out_channels
    assert generator.patch_size == backbone.patch_size


def make_tiny(backbone, depth):
    """Another size of the same student."""
    if 'TimmStudent' in backbone.type:
        backbone.model_args = dict(backbone.get('model_args', {}), embed_dim=24, depth=depth, num_heads=3)
    else:
        backbone.arch = dict(embed_dims=24, num_layers=depth, num_heads=3, feedforward_channels=48)


def shrink(cfg, tiny_clip):
    """The same config with a student and a teacher that run in seconds; everything else stays."""
    size = cfg.model.backbone.img_size
    patch = cfg.model.backbone.patch_size
    make_tiny(cfg.model.backbone, depth=2)
    cfg.model.neck.in_channels = 24
    widths = {}
    for name, teacher in teachers_of(cfg).items():
        is_clip = teacher.type == 'CLIPTargetGenerator'
        tiny = tiny_clip('configs', image_size=size, patch_size=patch)
        teacher.model_name = tiny if is_clip else 'vit_tiny_patch16_224'
        widths[name] = 24 if is_clip else 192
    cfg.model.neck.out_channels = widths.get('', widths)
    cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.sampler.total_batch = 4
    cfg.train_dataloader.dataset.indices = 8
    cfg.auto_scale_lr.base_batch_size = 4
    cfg.train_cfg.max_epochs = 1
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = 1


@pytest.mark.parametrize('name', [name for name in PRETRAINING if name not in SHARDED])
def test_two_steps(name, image_folder, tmp_path, tiny_clip):
    cfg = load(name)
    shrink(cfg, tiny_clip)
    cfg.work_dir = str(tmp_path / 'run')
    cfg.train_dataloader.dataset.data_root = str(image_folder)
    runner = build_runner(cfg)
    model = runner.train()
    assert runner.iter == 2
    (log,) = Path(runner.log_dir).glob('vis_data/*_*.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert len(losses) == 2 and all(-1 <= loss <= 1 for loss in losses)
    cosines = [
        f'{name}_{key}'.lstrip('_')
        for name in teachers_of(cfg)
        for key in ('cosine_cls', 'cosine_visible', 'cosine_masked')
    ]
    for key in (*cosines, 'images_per_second', 'grad_norm', 'lr'):
        assert key in lines[0], key
    assert lines[0]['grad_norm'] > 0
    assert list(Path(runner.log_dir).rglob('events.out.tfevents*'))
    saved = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)['state_dict']
    parts = [model.backbone.state_dict(), model.neck.state_dict()]
    assert sum(v.numel() for v in saved.values()) == sum(v.numel() for p in parts for v in p.values())


@pytest.mark.parametrize('name', PROMPTS)
def test_two_steps_of_prompts(name, tmp_path, tiny_clip):
    """CLIP's own tokenizer and context, two base classes and two new ones."""
    names = ['tench', 'goldfish', 'great white shark', 'tiger shark']
    for split, count in (('train', 3), ('val', 1)):
        for number, label in enumerate(names):
            write_images(tmp_path / 'data' / split / label, count, seed=number)
    cfg = Config.fromfile(ROOT / 'configs' / name)
    teacher = Path(tiny_clip('prompts', image_size=224, patch_size=16))
    config = json.loads(teacher.read_text())
    config['text_cfg'].update(context_length=77, vocab_size=49408)
    teacher.write_text(json.dumps(config))
    cfg.model.speaker.update(model_name=str(teacher), pretrained=None)
    cfg.model.class_names = names
    cfg.work_dir = str(tmp_path / 'run')
    batch = min(2, cfg.train_dataloader.batch_size)
    cfg.train_dataloader.update(batch_size=batch, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.sampler.total_batch = cfg.auto_scale_lr.base_batch_size = batch
    cfg.train_dataloader.dataset.shots = batch
    cfg.train_dataloader.dataset.dataset.data_root = str(tmp_path / 'data')
    cfg.val_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.val_dataloader.dataset.data_root = str(tmp_path / 'data')
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.default_hooks.logger.interval = cfg.default_hooks.checkpoint.interval = 1
    runner = build_runner(cfg)
    model = runner.train()
    assert runner.iter == 2
    (log,) = Path(runner.log_dir).glob('vis_data/*_*.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(line['lr'] == pytest.approx(1e-5) and line['loss'] > 0 for line in lines if 'loss' in line)
    assert {'base_to_new/base', 'base_to_new/new', 'base_to_new/H'} <= lines[-1].keys()
    saved = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)['state_dict']
    assert saved.keys() == model.state_dict().keys() and sum(map(torch.numel, saved.values())) < 2000
    found = load_prompts(tmp_path / 'run/prompts.safetensors')
    assert torch.equal(found.tensors['context'], model.prompts.context)


@pytest.mark.parametrize('name', PROMPTS)
def test_schedule_of_prompts(name):
    """Dassl's: one epoch at 1e-5, then a cosine from lr as long as the training, by the epoch."""
    cfg = Config.fromfile(ROOT / 'configs' / name)
    epochs, peak = cfg.train_cfg.max_epochs, 0.002
    assert epochs == (10 if 'cocoop' in name else 200)
    assert (
        cfg.train_dataloader.batch_size
        == cfg.auto_scale_lr.base_batch_size
        == (1 if 'cocoop' in name else 32)
    )
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=peak, momentum=0.9, weight_decay=5e-4)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
    schedulers = [PARAM_SCHEDULERS.build(dict(one, optimizer=optimizer)) for one in cfg.param_scheduler]
    for epoch in range(epochs):
        expected = 0.5 * peak * (1 + math.cos(math.pi * (epoch - 1) / epochs)) if epoch else 1e-5
        assert optimizer.param_groups[0]['lr'] == pytest.approx(expected, rel=1e-6), epoch
        for scheduler in schedulers:
            scheduler.step()


@pytest.fixture
def ade20k_folder(tmp_path):
    """Two random images and label maps (0 = other, 1 to 150) in ADE20K's layout."""
    rng = np.random.default_rng(0)
    for number in range(2):
        for kind, ending, top in (('images', 'jpg', 256), ('annotations', 'png', 151)):
            folder = tmp_path / 'ade' / kind / 'training'
            folder.mkdir(parents=True, exist_ok=True)
            shape = (40, 56, 3) if kind == 'images' else (40, 56)
            Image.fromarray(rng.integers(0, top, shape, dtype=np.uint8)).save(folder / f'{number}.{ending}')
    return tmp_path / 'ade'


@pytest.fixture
def own_folder(ade20k_folder):
    """The same images with two classes, in the layout of the config for one's own dataset."""
    for kind in ('images', 'annotations'):
        (ade20k_folder / kind / 'training').rename(ade20k_folder / kind / 'train')
    for path in (ade20k_folder / 'annotations/train').iterdir():
        Image.fromarray(np.asarray(Image.open(path)) % 2).save(path)
    return ade20k_folder


@pytest.mark.slow
@pytest.mark.parametrize('name', SEGMENTATION)
def test_two_segmentation_steps(name, request, tmp_path):
    """The real pipeline and depth; narrow layers and a quarter of the crop."""
    cfg = load(name)
    crop = (128, 128)
    cfg.model.data_preprocessor.size = crop
    cfg.model.backbone.img_size = 128
    steps = {step.type: step for step in cfg.train_pipeline}
    steps['RandomResize'].scale = (512, 128)
    steps['mmseg.RandomCrop'].crop_size = crop
    cfg.train_dataloader.dataset.pipeline = cfg.train_pipeline
    depth = max(cfg.model.backbone.out_indices) + 1
    make_tiny(cfg.model.backbone, depth)
    norm_cfg = dict(type='BN', requires_grad=True)
    cfg.model.neck.update(embed_dim=24, norm_cfg=norm_cfg)
    cfg.model.decode_head.update(in_channels=[24] * 4, channels=16, norm_cfg=norm_cfg)
    cfg.model.auxiliary_head.update(in_channels=24, channels=16, norm_cfg=norm_cfg)
    cfg.work_dir = str(tmp_path / 'run')
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    folder = request.getfixturevalue('own_folder' if 'custom' in name else 'ade20k_folder')
    cfg.train_dataloader.dataset.data_root = str(folder)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.auto_scale_lr.base_batch_size = 2
    cfg.train_cfg.max_iters = 2
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.pop('save_best')
    runner = build_runner(cfg)
    runner.train()
    assert runner.iter == 2
    (log,) = Path(runner.log_dir).glob('vis_data/*_*.json')
    losses = [json.loads(line)['loss'] for line in log.read_text().splitlines()]
    assert len(losses) == 2 and all(0 < loss < 20 for loss in losses)


BASE = {
    'model.backbone.img_size': 224,
    'model.backbone.patch_size': 16,
    'model.backbone.layer_scale_init_value': 0.1,
    'model.backbone.drop_path_rate': 0.1,
    'model.backbone.use_shared_rel_pos_bias': True,
    'model.backbone.use_rel_pos_bias': False,
    'model.backbone.use_abs_pos_emb': False,
    'model.backbone.final_norm': True,
    'model.target_generator.model_name': 'ViT-B-16-quickgelu',
    'model.target_generator.pretrained': 'openai',
    'model.target_generator.space': 'joint',
    'model.loss.tokens': 'all',
    'model.loss.cls_weight': 1.0,
    'model.neck.in_channels': 768,
    'model.neck.out_channels': 512,
    'optim_wrapper.optimizer.lr': 1.5e-3,
    'optim_wrapper.optimizer.weight_decay': 0.05,
    'optim_wrapper.clip_grad.max_norm': 3.0,
    'auto_scale_lr.base_batch_size': 2048,
    'train_dataloader.sampler.total_batch': 2048,
    'train_dataloader.drop_last': True,
    'train_cfg.max_epochs': 300,
}


@pytest.mark.parametrize(
    'name,changes',
    [
        ('vitb16_in1k', {}),
        ('vitb16_in1k_100e', {'train_cfg.max_epochs': 100}),
        (
            'vitl16_in1k',
            {'model.backbone.layer_scale_init_value': 1e-5, 'model.neck.in_channels': 1024},
        ),
        (
            'vith16_in1k_fsdp',
            {
                'model.backbone.layer_scale_init_value': 1e-5,
                'model.backbone.arch.embed_dims': 1280,
                'model.backbone.arch.num_layers': 32,
                'model.neck.in_channels': 1280,
                'optim_wrapper.accumulative_counts': 4,  # x 8 GPUs x 64 images
                'train_dataloader.batch_size': 64,
            },
        ),
        (
            'vitb16_in1k_dino',
            {
                'model.target_generator.model_name': 'vit_base_patch16_224.dino',
                'model.target_generator.pretrained': True,
                'model.target_generator.space': None,
                'model.neck.out_channels': 768,
            },
        ),
        (
            'vitb16_in1k_clip_dinov2',
            {
                'model.neck.out_channels': dict(clip=512, dinov2=768),
                'model.target_generator.model_name': None,
                'model.target_generator.pretrained': None,
                'model.target_generator.space': None,
                'model.target_generator.teachers.clip.model_name': 'ViT-B-16-quickgelu',
                'model.target_generator.teachers.clip.pretrained': 'openai',
            },
        ),
    ],
)
def test_numbers_of_the_recipe(name, changes):
    cfg = Config.fromfile(ROOT / f'configs/mvp/{name}.py')
    for key, value in {**BASE, **changes}.items():
        found = cfg
        for part in key.split('.'):
            found = found.get(part)
        assert found == value, key


def test_inheritance_from_any_folder(tmp_path):
    """A config of the user's own, far from the clone."""
    path = tmp_path / 'mine.py'
    path.write_text(
        "_base_ = 'mvp_mm::mvp/vitb16_in1k.py'\n"
        "train_dataloader = dict(dataset=dict(data_root='photographs'))\n"
    )
    cfg = Config.fromfile(path)
    assert cfg.train_dataloader.dataset.data_root == 'photographs'
    assert cfg.model.type == 'MVP'


def test_inherited_config_trains(image_folder, tmp_path):
    """MMEngine puts what comes from ``mvp_mm::`` into the scope ``mvp_mm``: names must resolve there."""
    path = tmp_path / 'mine.py'
    path.write_text(
        "_base_ = 'mvp_mm::mvp/vittiny_debug.py'\n"
        f'work_dir = {str(tmp_path / "run")!r}\n'
        'train_dataloader = dict(batch_size=4, sampler=dict(total_batch=4), num_workers=0,\n'
        f'    dataset=dict(data_root={str(image_folder)!r}))\n'
        'auto_scale_lr = dict(base_batch_size=4)\n'
        'train_cfg = dict(max_epochs=1)\n'
    )
    runner = build_runner(Config.fromfile(path))
    runner.train()
    assert runner.iter == 2 and type(runner.model).__name__ == 'MVP'


def test_mmseg_configs_resolve(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = 'mmseg::_base_/datasets/ade20k.py'\n")
    assert Config.fromfile(path).crop_size == (512, 512)


@pytest.mark.slow
def test_bases_of_three_packages_mix(ade20k_folder, tmp_path):
    """This package's model and schedule with mmseg's own dataset config; and mmpretrain's runtime."""
    mine = tmp_path / 'mine.py'
    mine.write_text(
        "_base_ = ['mvp_mm::_base_/models/upernet_vitb16.py', 'mmseg::_base_/datasets/ade20k.py',\n"
        "    'mvp_mm::_base_/schedules/upernet_adamw_160k.py', 'mvp_mm::_base_/segmentation_runtime.py']\n"
        f'work_dir = {str(tmp_path / "run")!r}\n'
        "norm_cfg = dict(type='BN', requires_grad=True)\n"
        'model = dict(\n'
        '    data_preprocessor=dict(size=(512, 512)),\n'
        '    backbone=dict(img_size=512, patch_size=32, init_cfg=None, out_indices=(0, 1, 2, 3),\n'
        '        arch=dict(_delete_=True, embed_dims=24, num_layers=4, num_heads=3,\n'
        '            feedforward_channels=48)),\n'
        '    neck=dict(embed_dim=24, norm_cfg=norm_cfg),\n'
        '    decode_head=dict(in_channels=[24] * 4, channels=16, norm_cfg=norm_cfg),\n'
        '    auxiliary_head=dict(in_channels=24, channels=16, norm_cfg=norm_cfg))\n'
        'train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,\n'
        f'    dataset=dict(data_root={str(ade20k_folder)!r}))\n'
        'val_dataloader = val_cfg = val_evaluator = test_dataloader = test_cfg = test_evaluator = None\n'
        'default_hooks = dict(checkpoint=dict(save_best=None))\n'
        'auto_scale_lr = dict(base_batch_size=2)\n'
        'train_cfg = dict(max_iters=1)\n'
    )
    runner = build_runner(Config.fromfile(mine))
    runner.train()
    assert runner.iter == 1 and type(runner.train_dataloader.dataset).__name__ == 'ADE20KDataset'
    mine.write_text(
        "_base_ = ['mvp_mm::_base_/models/mvp_vitb16.py', 'mmpretrain::_base_/default_runtime.py',\n"
        "    'mvp_mm::_base_/datasets/imagenet_mvp.py', 'mvp_mm::_base_/schedules/mvp_adamw_300e.py']\n"
    )
    cfg = Config.fromfile(mine)
    assert cfg.default_scope == 'mmpretrain' and cfg.model.type == 'MVP'
