import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmpretrain.registry import MODELS

from mvp_mm.models import MVPViT
from mvp_mm.models.follow_checkpoint import follow_checkpoint, follow_first_readable
from mvp_mm.weights import load

ARCH = dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=96)
KINDS = {
    'MVP': dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
    'BEiT downstream': dict(),
    'RILS': dict(use_rel_pos_bias=False, use_abs_pos_emb='sincos', layer_scale_init_value=0),
    'MAE': dict(use_rel_pos_bias=False, use_abs_pos_emb=True, layer_scale_init_value=0, bias=True),
    'no bias': dict(bias=False, layer_scale_init_value=0),
}


def config_of(kind):
    size = dict(type='mmpretrain.MVPViT', arch=ARCH, img_size=32, patch_size=8, out_type='raw')
    return ConfigDict(**size, **KINDS[kind])


@pytest.fixture
def file(tmp_path):
    """Writes the network of a kind, of random numbers, as a training does."""

    def written(kind):
        vit = MODELS.build(config_of(kind))
        for parameter in vit.parameters():
            torch.nn.init.normal_(parameter)
        path = tmp_path / f'{kind}.pth'
        torch.save(dict(state_dict={f'backbone.{n}': v for n, v in vit.state_dict().items()}), path)
        return path, vit.eval()

    return written


@pytest.mark.parametrize('config', KINDS)
@pytest.mark.parametrize('kind', KINDS)
def test_any_config_takes_any_kind(kind, config, file):
    """Loaded it is the same network; without following, it is that or refused: nothing is left random."""
    images = torch.randn(2, 3, 32, 32)
    path, source = file(kind)
    expected = source.encode_image(images)
    backbone = config_of(config)
    try:
        load(unfollowed := MODELS.build(backbone).eval(), str(path))
    except ValueError as error:
        asked = dict(part.split('=') for part in str(error).partition('--cfg-options ')[2].split())
        asked = {key.removeprefix('model.backbone.'): value for key, value in asked.items()}
        assert asked, error
    else:
        assert torch.equal(unfollowed.encode_image(images)[1], expected[1])
        asked = {}
    told = follow_first_readable(backbone, ['there is none', path])
    for key, value in asked.items():
        assert str(backbone[key]) == value and f'model.backbone.{key}={value}' in told
    assert bool(told) == bool(asked)
    followed = MODELS.build(backbone).eval()
    load(followed, str(path))
    for one, other in zip(followed.encode_image(images), expected, strict=True):
        assert torch.equal(one, other)


def test_other_backbones_and_files_stay():
    vit = MVPViT(ARCH, 32, 8)
    cfg = Config(dict(type='ResNet', depth=18))
    assert follow_checkpoint(cfg, vit.state_dict()) == '' and cfg.to_dict() == dict(type='ResNet', depth=18)
    backbone = config_of('MAE')
    assert follow_checkpoint(backbone, {'a.weight': torch.zeros(1)}) == ''
    assert follow_first_readable(backbone, []) == '' and backbone == config_of('MAE')


def test_positions_are_not_dropped(file):
    path, _ = file('RILS')
    bare = MVPViT(ARCH, 32, 8, use_rel_pos_bias=False, layer_scale_init_value=0)
    with pytest.raises(ValueError, match='it has pos_embed, .*use_abs_pos_emb=True$'):
        load(bare, str(path))


def test_models_without_a_backbone_follow_nothing():
    assert follow_first_readable({}, ['never_read.pth']) == ''
