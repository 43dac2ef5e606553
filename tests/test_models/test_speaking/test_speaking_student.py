import shutil
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from safetensors.torch import save_file

import mvp_mm
from mvp_mm.models.student import Student, student_of
from mvp_mm.zoo import model_config

ROOT = Path(__file__).parents[3]
TEACHERS = ROOT / 'configs/teachers'
NAMES = ['a red circle', 'a blue square']


@pytest.fixture(scope='module')
def mvp():
    return mvp_mm.get_model('mvp_vittiny_scenes', pretrained=True)


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def file(mvp, tmp_path):
    """``file(**changes)``: a checkpoint whose record of the teacher has other values."""

    def write(weights=None, **changes):
        speech = mvp.speech()
        speech['teacher'].update(changes)
        state = mvp.state_dict() if weights is None else weights
        torch.save(dict(meta=dict(speech=speech), state_dict=state), tmp_path / 'student.pth')
        return str(tmp_path / 'student.pth')

    return write


def build(checkpoint, **options):
    return MODELS.build(dict(type='SpeakingStudent', checkpoint=checkpoint, **options))


def cannot(model):
    with pytest.raises(ValueError) as error:
        _ = model.text_tower
    assert '\n' not in str(error.value) and str(error.value).count('cannot speak: ') == 1
    return str(error.value)


@torch.no_grad()
def test_is_the_student_with_its_head(mvp, file, images):
    model = build(file())
    assert isinstance(model, Student) and not model.training and student_of(model) is model.backbone
    assert (model.img_size, model.patch_size, model.embed_dims) == ((64, 64), 8, 96)
    for ours, theirs in zip(model.encode_image(images), mvp.backbone.encode_image(images), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(model(images)[-1], mvp.backbone(images)[-1])
    for ours, theirs in zip(model.embed_image(images), mvp.embed_image(images), strict=True):
        assert torch.equal(ours, theirs)
    assert model.state_dict().keys() == mvp.state_dict().keys() and 'text_tower' not in vars(model)  # still
    assert torch.equal(model.zero_shot(images, NAMES), mvp.zero_shot(images, NAMES))
    assert torch.equal(model.image_mean, mvp.image_mean.flatten()) and model.speech() == mvp.speech()


def test_is_built_in_a_program_that_uses_mmseg(mvp, file):
    with DefaultScope.overwrite_default_scope('mmseg'):
        student = MODELS.get('SpeakingStudent')(file())
    assert student.img_size == mvp.backbone.img_size


def test_older_checkpoints_speak(mvp, images, tmp_path, formatted_configs):
    """They hold the text of their config only."""
    text = model_config('mvp_vittiny_scenes').pretty_text
    torch.save(dict(meta=dict(cfg=text), state_dict=mvp.state_dict()), tmp_path / 'old.pth')
    assert torch.equal(
        build(str(tmp_path / 'old.pth')).zero_shot(images, NAMES), mvp.zero_shot(images, NAMES)
    )


def test_random_weights_of_a_config(mvp, images):
    model = build(None, speech=mvp.speech())
    assert model.zero_shot(images, NAMES).shape == (2, 2)
    with pytest.raises(ValueError, match='needs a checkpoint, or the speech of one'):
        build(None)


def test_a_published_teacher_of_another_machine(mvp, file, images):
    moved = build(file(model_name='/gone/clip.json', pretrained='/gone/clip.safetensors'))
    assert torch.equal(moved.zero_shot(images, NAMES), mvp.zero_shot(images, NAMES))


def test_a_teacher_that_moved(mvp, file, images, tmp_path, monkeypatch):
    monkeypatch.setattr('mvp_mm.weights.locate.BY_SHA256', [])  # as if nobody had published it
    moved = file(model_name='/gone/clip.json', pretrained='/gone/clip.safetensors')
    assert 'no open_clip model config /gone/clip.json; give the teacher' in cannot(build(moved))
    for suffix in ('.json', '.safetensors'):
        shutil.copy(TEACHERS / f'clip_vittiny_scenes{suffix}', tmp_path / f'elsewhere{suffix}')
    model = build(moved, teacher=str(tmp_path / 'elsewhere.safetensors'))
    assert torch.equal(model.zero_shot(images, NAMES), mvp.zero_shot(images, NAMES))


def test_another_teacher(file, tmp_path):
    weights = dict(mvp_mm.get_model('teachers_clip_vittiny_scenes').clip.state_dict())
    save_file(weights, tmp_path / 'other.safetensors', metadata=dict(quick_gelu='False'))
    told = cannot(build(file(), teacher=str(tmp_path / 'other.safetensors')))
    assert "another teacher's text tower than the student's: the sha256 of " in told and 'edbc1b34' in told
    assert 'holds its vision tower only' in cannot(
        build(file(), teacher=str(TEACHERS / 'dino_vittiny_scenes.safetensors'))
    )


def test_who_cannot_speak(mvp, file, images, tmp_path):
    headless = {name: value for name, value in mvp.state_dict().items() if name.startswith('backbone.')}
    assert 'it has no head' in cannot(build(file(headless)))
    assert "(space='hidden')" in cannot(build(file(space='hidden')))
    assert 'its teacher, a TimmTargetGenerator, has no text tower' in cannot(
        build(file(type='TimmTargetGenerator'))
    )
    torch.save(headless, tmp_path / 'bare.pth')
    bare = build(str(tmp_path / 'bare.pth'))
    assert 'it does not tell of a head and a teacher' in cannot(bare)
    assert torch.equal(bare(images)[-1], mvp.backbone(images)[-1])  # but it sees
    with pytest.raises(ValueError, match='cannot speak: it does not tell'):
        bare.embed_image(images)


def test_weights_that_do_not_fit(mvp, file, tmp_path):
    weights = dict(mvp.state_dict(), **{'neck.fc.weight': torch.zeros(4, 96)})
    with pytest.raises(ValueError, match=r'the head of .*student.pth does not fit: .*fc.weight'):
        build(file(weights))
