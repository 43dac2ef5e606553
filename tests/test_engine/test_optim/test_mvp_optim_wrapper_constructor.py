from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS
from torch import nn

from mvp_mm.engine import MVPOptimWrapperConstructor
from mvp_mm.models import MVPViT

ROOT = Path(__file__).parents[3]


def setting_of(model, wrapper):
    groups = wrapper.optimizer.param_groups
    by_id = {id(p): (group['lr'], group['weight_decay']) for group in groups for p in group['params']}
    assert len(by_id) == sum(len(group['params']) for group in groups)
    return {name: by_id.get(id(p)) for name, p in model.named_parameters()}


def test_weight_decay_of_the_recipe():
    cfg = Config.fromfile(ROOT / 'configs/mvp/vittiny_debug.py')
    assert cfg.optim_wrapper == Config.fromfile(ROOT / 'configs/mvp/vitb16_in1k.py').optim_wrapper
    cfg.model.backbone.arch.num_layers = 8
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    optimizer = wrapper.optimizer
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults['betas'] == (0.9, 0.999) and optimizer.defaults['eps'] == 1e-8
    assert wrapper.clip_grad_kwargs == dict(max_norm=3.0)
    settings = setting_of(model, wrapper)
    assert all(lr == 1.5e-3 for lr, _ in settings.values())
    decay = {name: wd for name, (_, wd) in settings.items()}
    block = 'backbone.layers.7'
    expected = {
        'backbone.cls_token': 0,
        'backbone.mask_token': 0.05,
        'backbone.patch_embed.projection.weight': 0.05,
        'backbone.patch_embed.projection.bias': 0,
        'backbone.rel_pos_bias.relative_position_bias_table': 0.05,
        f'{block}.gamma_1': 0,
        f'{block}.gamma_2': 0,
        f'{block}.ln1.weight': 0,
        f'{block}.ln1.bias': 0,
        f'{block}.attn.q_bias': 0,
        f'{block}.attn.v_bias': 0,
        f'{block}.attn.qkv.weight': 0.05,
        f'{block}.attn.proj.weight': 0.05,
        f'{block}.attn.proj.bias': 0,
        f'{block}.ffn.layers.0.0.weight': 0.05,
        f'{block}.ffn.layers.0.0.bias': 0,
        'backbone.ln1.weight': 0,
        'neck.fc.weight': 0.05,
        'neck.fc.bias': 0,
    }
    assert {name: decay[name] for name in expected} == expected
    assert {name for name, wd in decay.items() if wd} == {
        name for name, p in model.named_parameters() if p.ndim > 1 and 'cls_token' not in name
    }
    assert not any('target_generator' in name for name in decay)
    assert len(optimizer.param_groups) == 2


def test_learning_rate_falls_with_depth():
    backbone = MVPViT(
        dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=48),
        img_size=32,
        patch_size=8,
        use_abs_pos_emb=True,
    )

    class Segmentor(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = backbone
            self.decode_head = nn.Linear(24, 2)

    model = Segmentor()
    wrapper = build_optim_wrapper(
        model,
        dict(
            constructor='MVPOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05),
            paramwise_cfg=dict(layer_decay_rate=0.65),
        ),
    )
    settings = setting_of(model, wrapper)
    expected = {
        'backbone.cls_token': (0.65**4, 0),
        'backbone.pos_embed': (0.65**4, 0),
        'backbone.patch_embed.projection.weight': (0.65**4, 0.05),
        'backbone.layers.0.attn.qkv.weight': (0.65**3, 0.05),
        'backbone.layers.0.attn.relative_position_bias_table': (0.65**3, 0.05),
        'backbone.layers.2.ln1.weight': (0.65, 0),
        'backbone.ln2.weight': (1, 0),
        'decode_head.weight': (1, 0.05),
        'decode_head.bias': (1, 0),
    }
    for name, setting in expected.items():
        assert settings[name] == pytest.approx(setting), name


def test_frozen_parameters_are_left_out_and_errors():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    config = dict(optimizer=dict(type='SGD', lr=1.0))
    wrapper = MVPOptimWrapperConstructor(dict(config))(model)
    assert setting_of(model, wrapper)['0.weight'] is None
    with pytest.raises(ValueError, match='get_layer_depth'):
        MVPOptimWrapperConstructor(dict(config), dict(layer_decay_rate=0.5))(model)
    with pytest.raises(ValueError, match='decay_rate'):
        MVPOptimWrapperConstructor(dict(config), dict(decay_rate=0.5))
    with pytest.raises(ValueError, match=r'\(0, 1\]'):
        MVPOptimWrapperConstructor(dict(config), dict(layer_decay_rate=1.5))
