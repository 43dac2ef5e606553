"""Each scheme there and back, and single names as the library writes them."""

import pytest
import torch

from mvp_mm.models import MVPViT
from mvp_mm.weights.names.scheme import BEIT, MMSEG_VIT, TIMM_VIT

ARCH = dict(embed_dims=12, num_layers=2, num_heads=3, feedforward_channels=24)
PLAIN = dict(bias=True, use_abs_pos_emb=True, use_rel_pos_bias=False, final_norm=True)


@pytest.mark.parametrize(
    ('scheme', 'flags', 'names'),
    [
        (BEIT, {}, ['blocks.1.gamma_2', 'blocks.0.mlp.fc1.weight', 'fc_norm.bias']),
        (
            TIMM_VIT,
            PLAIN,
            ['blocks.1.ls2.gamma', 'blocks.1.attn.qkv.bias', 'patch_embed.proj.weight', 'norm.bias'],
        ),
        (
            MMSEG_VIT,
            PLAIN,
            ['layers.0.attn.attn.in_proj_weight', 'layers.1.attn.attn.out_proj.bias', 'ln1.bias'],
        ),
    ],
    ids=['BEiT', "timm's ViT", "mmseg's ViT"],
)
def test_there_and_back(scheme, flags, names):
    own = MVPViT(ARCH, 16, 8, **flags).state_dict()
    theirs = scheme.from_mmpretrain(own)
    assert len(theirs) == len(own) and set(names) <= set(theirs)
    back = scheme.to_mmpretrain(theirs)
    assert list(back) == list(own) and all(torch.equal(back[name], own[name]) for name in own)
