from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mvp_mm.visualization.viewed_model import build_student, view_config, view_models
from mvp_mm.zoo.hub import model_config

CONFIGS = Path(__file__).parents[2] / 'configs'
DEBUG = str(CONFIGS / 'mvp/vittiny_debug.py')
MAE = str(CONFIGS / 'mvp/vittiny_scenes_mae.py')
UPERNET = str(CONFIGS / 'upernet/vittiny_scenes.py')


@torch.no_grad()
def test_a_pretraining_checkpoint_as_it_is(tmp_path):
    """It fills the student of its own config, and that of a downstream one, which holds a table a block."""
    cfg = model_config(DEBUG)
    DefaultScope.get_instance('here', scope_name='mmpretrain')
    model = MODELS.build(cfg.model)
    model.backbone.rel_pos_bias.relative_position_bias_table.normal_()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'epoch_1.pth')
    pixels = torch.randint(256, (1, 3, 64, 64)).float()
    same, other = (
        view_config(model_config(path), str(tmp_path / 'epoch_1.pth'), 'a') for path in (DEBUG, UPERNET)
    )
    images = model.data_preprocessor(dict(inputs=pixels))['inputs']
    (expected,) = model.backbone.eval()(images)
    assert same.side == 64 and torch.allclose(same.normalised(pixels), images, atol=1e-6)
    assert torch.equal(same.vit(images)[0], expected)
    attentions = ([attention for attention, _ in view.vit.blockwise(images)] for view in (same, other))
    for one, another in zip(*attentions, strict=True):
        assert torch.allclose(one, another, atol=1e-6)


@torch.no_grad()
def test_mae_is_the_same_network():
    backbone = {**model_config(MAE).model.backbone, 'type': 'mmpretrain.MAEViT'}
    plain = MODELS.build(backbone)
    plain.eval()  # mmpretrain's returns None
    plain.init_weights()
    vit = build_student(backbone, 'MAE').eval()
    vit.load_state_dict(plain.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(vit(images)[0], plain(images, None)[0], atol=1e-5)


def test_titles_and_shared_teachers(tmp_path):
    first, second, third = view_models(
        [[DEBUG, 'random'], [DEBUG, 'random', 'again'], ['mvp_vittiny_scenes_mae', 'random']],
        with_teachers=True,
    )
    assert [view.title for view in (first, second, third)] == [
        'vittiny_debug random',
        'again',
        'mvp_vittiny_scenes_mae random',
    ]
    assert first.teacher_title == 'teacher tiny_clip'
    assert second.teacher is None and third.teacher is None  # the same one, and none


@pytest.mark.parametrize(
    'given,options,message',
    [
        ([DEBUG, 'gone.pth'], {}, 'there is no checkpoint gone.pth'),
        (['nothing', 'random'], {}, "there is no model 'nothing'"),
        ([DEBUG, 'a', 'b', 'c'], {}, 'a model is NAME_OR_CONFIG'),
        ([UPERNET, 'random'], dict(with_teachers=True), 'vittiny_scenes random has no teacher'),
        ([DEBUG, 'random'], dict(device='toaster'), "device 'toaster' cannot be used"),
        ([str(CONFIGS / 'teachers/clip_vittiny_scenes.py'), 'random'], {}, 'has no backbone to look into'),
        (
            [DEBUG, 'random'],
            dict(cfg_options={'model.backbone.type': 'ResNet'}),
            'has a ResNet as its backbone, but only MVPViT',
        ),
    ],
)
def test_mistakes(given, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        view_models([given], **options)
