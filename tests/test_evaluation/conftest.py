"""A student and its teacher that speak: random weights, CLIP's own tokenizer."""

import json

import open_clip
import pytest
import torch
from mmpretrain.registry import MODELS
from safetensors.torch import save_file

VISION = dict(image_size=32, patch_size=8, width=32, layers=2, head_width=16)
TEXT = dict(context_length=77, vocab_size=49408, width=16, heads=2, layers=1)


@pytest.fixture(scope='session')
def clip(tmp_path_factory):
    """A random CLIP of 32 pixels, with the paths of its config and weights."""
    folder = tmp_path_factory.mktemp('clip')
    torch.manual_seed(5)
    network = open_clip.CLIP(24, VISION, TEXT).eval()
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.3)
    config = dict(embed_dim=24, vision_cfg=VISION, text_cfg=TEXT)
    (folder / 'clip.json').write_text(json.dumps(config))
    save_file({k: v.clone() for k, v in network.state_dict().items()}, folder / 'clip.safetensors')
    return network, str(folder / 'clip.json'), str(folder / 'clip.safetensors')


def speaking_config(clip, **target_generator):
    """``model`` of a config: a two-layer student of 32 pixels, patches of 8."""
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    backbone = dict(type='MVPViT', arch=arch, img_size=32, patch_size=8, out_type='raw')
    backbone |= dict(with_mask_token=True, use_rel_pos_bias=False, use_shared_rel_pos_bias=True)
    teacher = dict(type='CLIPTargetGenerator', model_name=clip[1], pretrained=clip[2], patch_size=8)
    return dict(
        type='MVP',
        backbone=backbone,
        neck=dict(type='MVPNeck', in_channels=32, out_channels=24),
        target_generator=teacher | dict(quick_gelu=False) | target_generator,
    )


@pytest.fixture
def speaker(clip, tmp_path, monkeypatch):
    """An MVP of :func:`speaking_config`; text embeddings are cached in a folder of the test."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    torch.manual_seed(7)
    return MODELS.build(speaking_config(clip)).eval()
