from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mvp_mm.visualization.attention_maps import view_teacher
from mvp_mm.visualization.viewed_model import view_models
from mvp_mm.zoo.hub import model_config

CONFIGS = Path(__file__).parents[2] / 'configs'
DEBUG = str(CONFIGS / 'mvp/vittiny_debug.py')
UPERNET = str(CONFIGS / 'upernet/vittiny_scenes.py')


@torch.no_grad()
def test_a_pretraining_checkpoint_as_it_is(tmp_path):
    """It fills the student of its own config, and that of a downstream one, which holds a table a block."""
    cfg = model_config(DEBUG)
    DefaultScope.get_instance('here', scope_name='mmpretrain')
    model = MODELS.build(cfg.model)
    model.backbone.rel_pos_bias.relative_position_bias_table.normal_()
    file = str(tmp_path / 'epoch_1.pth')
    torch.save(dict(state_dict=model.state_dict()), file)
    pixels = torch.randint(256, (1, 3, 64, 64)).float()
    same, other = view_models([[DEBUG, file], [UPERNET, file]])
    images = model.data_preprocessor(dict(inputs=pixels))['inputs']
    (expected,) = model.backbone.eval()(images)
    assert same.side == 64 and torch.allclose(same.normalised(pixels), images, atol=1e-6)
    assert torch.equal(same.student(images)[0], expected)
    attentions = ([attention for attention, _ in view.student.blockwise(images)] for view in (same, other))
    for one, another in zip(*attentions, strict=True):
        assert torch.allclose(one, another, atol=1e-6)


def test_titles_and_shared_teachers():
    first, second, third = view_models(
        [[DEBUG, 'random'], [DEBUG, 'random', 'again'], ['mvp_vittiny_scenes_mae', 'random']],
        with_teachers=True,
    )
    assert [view.title for view in (first, second, third)] == [
        'vittiny_debug random',
        'again',
        'mvp_vittiny_scenes_mae random',
    ]
    assert list(first.teachers) == ['teacher tiny_clip']
    assert not second.teachers and not third.teachers  # the same one, and none


def test_several_teachers_are_shown_each():
    (view,) = view_models([['mvp_vittiny_scenes_clip_dino', 'random']], with_teachers=True)
    assert list(view.teachers) == ['teacher clip_vittiny_scenes', 'teacher vit_tiny_patch16_224']
    pixels = torch.rand(1, 3, 64, 64) * 255
    clip, dino = (view_teacher(view, pixels, True, title) for title in view.teachers)
    assert (clip.patches.shape, dino.patches.shape) == ((64, 96), (64, 128))
    assert torch.equal(view_teacher(view, pixels).patches, clip.patches)


@pytest.mark.parametrize(
    'given,options,message',
    [
        ([DEBUG, 'gone.pth'], {}, 'there is no checkpoint gone.pth'),
        (['nothing', 'random'], {}, "there is no model 'nothing'"),
        (['mvp_vitb16_in1k'], {}, "Name a checkpoint after the model, or 'random' for none"),
        ([DEBUG, 'a', 'b', 'c'], {}, 'a model is NAME_OR_CONFIG'),
        ([UPERNET, 'random'], dict(with_teachers=True), 'vittiny_scenes random has no teacher'),
        ([str(CONFIGS / 'teachers/clip_vittiny_scenes.py'), 'random'], {}, 'has no backbone to look into'),
    ],
)
def test_mistakes(given, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        view_models([given], **options)
