from pathlib import Path

import pytest
import torch
from mmpretrain.models import BEiTViT, ResNet, VisionTransformer
from mmpretrain.models.selfsup import MAEViT

from mvp_mm.models import MVPViT
from mvp_mm.models.backbones.plain_vit import as_student
from mvp_mm.zoo.hub import model_config

CONFIG = Path(__file__).parents[3] / 'configs/mvp/vittiny_scenes_mae.py'
ARCH = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)


@torch.no_grad()
def test_mae_is_the_same_network():
    config = {key: value for key, value in model_config(str(CONFIG)).model.backbone.items() if key != 'type'}
    plain = MAEViT(**config)
    plain.init_weights()
    plain.eval()
    student = as_student(plain).eval()
    images = torch.randn(2, 3, 64, 64)
    cls, patches = student.encode_image(images)
    assert torch.allclose(torch.cat([cls[:, None], patches], dim=1), plain(images, None)[0], atol=1e-5)


@torch.no_grad()
def test_a_plain_transformer_without_cls():
    plain = VisionTransformer(
        ARCH, img_size=32, patch_size=8, qkv_bias=False, with_cls_token=False, out_type='raw'
    )
    plain.eval()
    cls, patches = as_student(plain).eval().encode_image(images := torch.randn(1, 3, 32, 48))
    assert cls is None and torch.allclose(patches, plain(images)[0], atol=1e-5)


def test_what_is_no_student():
    vit = MVPViT(ARCH, img_size=32, patch_size=8)
    assert as_student(vit) is vit
    others = [
        ResNet(18),
        BEiTViT(ARCH, img_size=32, patch_size=8),
        VisionTransformer(ARCH, img_size=32, patch_size=8, pre_norm=True),
        VisionTransformer(ARCH, img_size=32, patch_size=8, layer_scale_init_value=0.1),
    ]
    for other in others:
        with pytest.raises(ValueError, match=f'a {type(other).__name__} has no encode_image'):
            as_student(other)
