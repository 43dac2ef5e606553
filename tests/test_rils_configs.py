"""RILS's configs on the embedded scenes run, and what they train goes downstream; the recipe's numbers."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mvp_mm.engine import build_runner
from mvp_mm.models import RILS

CONFIGS = Path(__file__).parents[1] / 'configs'


def shortened(name, work_dir, batch=8):
    cfg = Config.fromfile(CONFIGS / name)
    cfg.work_dir = str(work_dir)
    cfg.train_dataloader.update(batch_size=batch, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.count = 2 * batch
    cfg.train_dataloader.sampler.total_batch = cfg.auto_scale_lr.base_batch_size = batch
    for loader in [one.dataloader for one in cfg.get('evaluators', [])]:
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.count = 12
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    return cfg


def train(cfg):
    runner = build_runner(cfg)
    runner.train()
    (path,) = Path(runner.log_dir).glob('vis_data/*_*.json')
    return runner, [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize('name', ['vittiny_scenes', 'vittiny_scenes_clip', 'vittiny_scenes_mae_clip'])
def test_scenes_and_downstream(name, tmp_path):
    cfg = shortened(f'rils/{name}.py', tmp_path / 'run')
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    labelled = cfg.evaluators[0].dataloader
    probe = dict(type='OnlineProbe', dataloader=labelled, train_dataloader=labelled, num_classes=8)
    cfg.evaluators.append(probe)
    runner, lines = train(cfg)
    steps = [line for line in lines if 'loss' in line]
    parts = (
        {'loss_contrastive', 'loss_reconstruction'} if name != 'vittiny_scenes_clip' else {'loss_contrastive'}
    )
    assert isinstance(runner.model, RILS) and len(steps) == 2
    for step in steps:
        assert {key for key in step if key.startswith('loss_')} == parts
        assert step['loss'] == pytest.approx(sum(step[key] for key in parts), rel=1e-4)
        assert 0 <= step['retrieval_accuracy'] <= 100
    (found,) = [line for line in lines if 'scenes_shape/top1' in line]
    assert 0 <= found['online_probe/top1'] <= 100
    assert 0 <= found['scenes_shape/top1'] <= 100 and 0 <= found['scenes_colour/top5'] <= 100
    if name != 'vittiny_scenes':
        return
    saved = str(tmp_path / 'run/epoch_1.pth')
    downstream = Config.fromfile(CONFIGS / 'upernet/vittiny_scenes.py')
    downstream.merge_from_dict({'model.backbone.init_cfg.checkpoint': saved})
    downstream.work_dir = str(tmp_path / 'upernet')
    downstream.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
    downstream.val_dataloader.update(num_workers=0, persistent_workers=False)
    for loader in (downstream.train_dataloader, downstream.val_dataloader):
        loader.dataset.count = 8
    downstream.auto_scale_lr.base_batch_size = 4
    downstream.train_cfg.update(max_iters=2, val_interval=2)
    other, lines = train(downstream)
    assert any('mIoU' in line for line in lines)
    kept = torch.load(saved, weights_only=False)['state_dict']['backbone.pos_embed']
    assert torch.allclose(other.model.backbone.pos_embed.cpu(), kept, atol=0.1)  # it started there


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        ('vitb16_l20m', {}),
        (
            'vitl16_l50m',
            {
                'model.backbone.arch': 'large',
                'model.text_encoder': 'ViT-L-14-quickgelu',
                'train_dataloader.batch_size': 256,
                'train_dataloader.dataset.data_root': 'data/laion400m/l50m/*.tar',
            },
        ),
    ],
)
def test_numbers_of_the_recipe(name, changes):
    expected = {
        'model.backbone.arch': 'base',
        'model.backbone.use_abs_pos_emb': 'sincos',
        'model.backbone.drop_path_rate': 0,
        'model.text_encoder': 'ViT-B-16-quickgelu',
        'model.reconstruction_weight': 0.5,
        'optim_wrapper.optimizer.lr': 3e-3,
        'optim_wrapper.optimizer.weight_decay': 0.1,
        'optim_wrapper.optimizer.betas': (0.9, 0.98),
        'optim_wrapper.optimizer.eps': 1e-8,
        'auto_scale_lr.base_batch_size': 4096,
        'train_dataloader.sampler.total_batch': 4096,
        'train_dataloader.batch_size': 512,
        'train_dataloader.dataset.type': 'ImageTextShards',
        'train_dataloader.dataset.data_root': 'data/laion400m/l20m/*.tar',
        'train_cfg.max_epochs': 25,
    }
    cfg = Config.fromfile(CONFIGS / f'rils/{name}.py')
    for key, value in {**expected, **changes}.items():
        found = cfg
        for part in key.split('.'):
            found = found.get(part)
        assert found == value, key
    crop, mask, tokens, pack = cfg.train_dataloader.dataset.pipeline
    assert (crop.scale, crop.flip, mask.mask_ratio, pack.fields) == ((0.5, 1.0), 0, 0.75, ('text',))
    assert tokens.model_name == cfg.model.text_encoder
    warm, cosine = cfg.param_scheduler
    assert (warm.start_factor, warm.end, cosine.begin, cosine.end) == (1e-6 / 3e-3, 1, 1, 25)
    assert cosine.eta_min_ratio == 1e-5 / 3e-3
