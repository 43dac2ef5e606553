import pytest
import torch

from mvp_mm.models import MVPViT
from mvp_mm.weights.infer_arch import infer_arch

ARCH = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=96)


@pytest.mark.parametrize(
    'flags',
    [
        dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True, final_norm=True, out_type='raw'),
        dict(),
        dict(out_type='raw', layer_scale_init_value=0),
        dict(img_size=(24, 64), bias=True, use_abs_pos_emb=True),
        # a table of 81 = 3 x 27 = 9 x 9 offsets: which of both, only the index beside it tells
        dict(img_size=(16, 112), bias=False, in_channels=4),
    ],
)
def test_exactly_the_parameters_of_the_file(flags):
    vit = MVPViT(**{**dict(arch=ARCH, img_size=64, patch_size=8), **flags})
    again = MVPViT(**infer_arch(vit.state_dict(), 'a.pth'))
    again.load_state_dict(vit.state_dict(), strict=True)
    assert again.window == vit.window


def test_what_cannot_be_told():
    vit = MVPViT(ARCH, 64, 8, use_abs_pos_emb=True, use_rel_pos_bias=False)
    with pytest.raises(ValueError, match='a.pth .* no relative position bias table. Give the config'):
        infer_arch(vit.state_dict(), 'a.pth')
    state = {name: torch.zeros(2, 2) for name in ('a.weight', 'b.weight')}
    with pytest.raises(ValueError, match='no vision transformer'):
        infer_arch(state, 'a.pth')
    state = {'patch_embed.proj.weight': torch.zeros(48, 3, 8, 8)}
    with pytest.raises(ValueError, match='no whole BEiT-family transformer: it has no layers.0.attn.qkv'):
        infer_arch(state, 'a.pth')
