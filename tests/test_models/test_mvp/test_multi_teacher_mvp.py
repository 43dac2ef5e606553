import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from torch.nn import functional as F

import mvp_mm
from mvp_mm.engine import build_runner
from mvp_mm.evaluation import target_cosine
from mvp_mm.export import export
from mvp_mm.models import MVP
from mvp_mm.models.speaking.speaking_student import SpeakingStudent
from mvp_mm.zoo.publish import publish

ROOT = Path(__file__).parents[3]

CLIP = dict(type='CLIPTargetGenerator', pretrained=None, patch_size=8)
PIXELS = dict(type='PixelTargetGenerator', patch_size=8)  # 192 wide
STUDENT = dict(
    type='MVPViT',
    arch=dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=96),
    img_size=32,
    patch_size=8,
    out_type='raw',
    with_mask_token=True,
    final_norm=True,
    use_shared_rel_pos_bias=True,
    use_rel_pos_bias=False,
    use_abs_pos_emb=False,
    drop_path_rate=0.5,  # draws from the random state
)
WIDTHS = dict(clip=24, pixels=192)


@pytest.fixture
def clip(tiny_clip):
    return dict(CLIP, model_name=tiny_clip('multi'))


def build(teachers, neck=None, **options):
    torch.manual_seed(0)
    widths = {name: WIDTHS[name] for name in teachers}
    config = dict(
        type='MultiTeacherMVP',
        backbone=STUDENT,
        neck=dict(type='MVPNecks', in_channels=48, out_channels=widths) | (neck or {}),
        target_generator=dict(type='TargetGenerators', teachers=teachers, **options),
    )
    return MODELS.build(copy.deepcopy(config)).train()


def batch(model, seed=0, size=4):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (size, 3, 32, 32), generator=generator, dtype=torch.uint8)
    mask = torch.rand(size, 4, 4, generator=generator) < 0.4
    return model.data_preprocessor(dict(inputs=images, mask=mask))


def trained(model, seeds, optimizer=None):
    """Losses of steps on batches of these seeds; what a random number is then; the optimiser."""
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for seed in seeds:
        torch.manual_seed(seed)
        optimizer.zero_grad()
        parts = model.loss(**batch(model, seed))
        parts['loss'].backward()
        optimizer.step()
        losses.append(parts)
    return losses, torch.rand(1), optimizer


def test_one_teacher_is_mvp_to_the_last_bit(clip):
    """Parameters at the start, losses, logged cosines, gradients, random state, and parameters at the end."""
    torch.manual_seed(0)
    neck = dict(type='MVPNeck', in_channels=48, out_channels=24)
    mvp = MODELS.build(dict(type='MVP', backbone=STUDENT, neck=neck, target_generator=copy.deepcopy(clip)))
    several = build(dict(clip=clip), weights=dict(clip=0.3))
    renamed = {name.replace('heads.clip.', ''): value for name, value in several.state_dict().items()}
    assert renamed.keys() == mvp.state_dict().keys()
    assert all(torch.equal(value, renamed[name]) for name, value in mvp.state_dict().items())
    expected, after, _ = trained(mvp.train(), range(3))
    found, after_too, _ = trained(several, range(3))
    assert torch.equal(after, after_too)
    for ours, theirs in zip(found, expected, strict=True):
        assert {name.removeprefix('clip_') for name in ours} == theirs.keys()
        assert all(torch.equal(value, theirs[name.removeprefix('clip_')]) for name, value in ours.items())
    for ours, theirs in zip(several.parameters(), mvp.parameters(), strict=True):
        assert torch.equal(ours, theirs) and torch.equal(ours.grad, theirs.grad)
    several.eval(), mvp.eval()
    images = batch(mvp)['inputs']
    for ours, theirs in zip(several.embed_image(images), mvp.embed_image(images), strict=True):
        assert torch.equal(ours, theirs)


def test_loss_is_the_weighted_mean_of_equation_9(clip):
    model = build(dict(clip=clip, pixels=PIXELS), weights=dict(clip=3)).eval()
    model.neck.train()  # the statistics of this batch
    data = batch(model)
    found = model.loss(**data)
    tokens, mask = model.backbone(data['inputs'], data['mask'])[-1], data['mask'].flatten(1)
    losses = {}
    for name, teacher in model.target_generator.teachers.items():
        target = teacher(data['inputs'])
        parts = target[:, :1], target[:, 1:]
        deviations = [part.std((0, 1), correction=0).clamp(min=1e-8) for part in parts]
        target = torch.cat(
            [(part - part.mean((0, 1))) / d for part, d in zip(parts, deviations, strict=True)], dim=1
        )
        cosines = F.cosine_similarity(model.neck.heads[name](tokens), target, dim=-1)
        losses[name] = -cosines.mean()
        assert found[f'{name}_cosine_masked'].item() == pytest.approx(
            cosines[:, 1:][mask].mean().item(), abs=1e-4
        )
    expected = (3 * losses['clip'] + losses['pixels']) / 4
    assert found['loss'].item() == pytest.approx(expected.item(), abs=1e-4)
    assert [name for name in found if 'loss' in name] == ['loss']  # all that MMEngine adds up
    predictions, targets = model.predict(data['inputs'], data['mask'])
    figures = target_cosine.figures(target_cosine.token_sums(predictions, targets, data['mask']))
    assert figures['cosine'] == pytest.approx(-found['loss'].item(), abs=1e-5)


@pytest.mark.parametrize('method', ['dimensions', 'phi-s'])
def test_a_restart_is_exact(clip, method):
    """Statistics, dropped teachers, weights and optimiser go on as if there had been none."""
    options = dict(neck=dict(standardise=method, batches=3), drop=0.4, seed=1)
    teachers = dict(clip=clip, pixels=PIXELS)
    whole = build(teachers, **options)
    expected, _, _ = trained(whole, range(6))
    assert len({tuple(sorted(losses)) for losses in expected}) > 1  # something was dropped
    cut = build(teachers, **options)
    _, _, optimizer = trained(cut, range(2))
    resumed = build(teachers, **options)
    resumed.load_state_dict(copy.deepcopy(cut.state_dict()))
    continued = torch.optim.AdamW(resumed.parameters(), lr=1e-3)
    continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    found, _, _ = trained(resumed, range(2, 6), continued)
    for ours, theirs in zip(found, expected[2:], strict=True):
        assert ours.keys() == theirs.keys() and torch.equal(ours['loss'], theirs['loss'])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_dropped_teachers_head_has_a_gradient_of_zeros(clip):
    """DDP waits for a gradient of every parameter."""
    model = build(dict(clip=clip, pixels=PIXELS), drop=0.9)
    parts = model.loss(**batch(model))
    parts['loss'].backward()
    (left_out,) = {'clip', 'pixels'} - {name.split('_')[0] for name in parts}
    assert not model.neck.heads[left_out].fc.weight.grad.any()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_teacher_without_cls(clip):
    """Its loss is that of patches; the head of the other still learns CLS."""
    model = build(dict(clip=clip, pixels=PIXELS), neck=dict(standardise='none')).eval()
    pixels, tokens = model.target_generator.teachers.pixels, model.target_generator.extra_tokens
    forward = pixels.forward
    pixels.forward, tokens['pixels'] = lambda images: forward(images)[:, 1:], 0
    data = batch(model)
    found = model.loss(**data)
    assert 'clip_cosine_cls' in found and 'pixels_cosine_cls' not in found
    predicted = model.predict_tokens(data['inputs'], data['mask'])
    targets = {name: teacher(data['inputs']) for name, teacher in model.target_generator.teachers.items()}
    of_clip = F.cosine_similarity(predicted['clip'], targets['clip'], dim=-1)
    of_pixels = F.cosine_similarity(predicted['pixels'][:, 1:], targets['pixels'], dim=-1)
    assert found['loss'].item() == pytest.approx(-(of_clip.mean() + of_pixels.mean()).item() / 2, abs=1e-5)
    predictions, joined = model.predict(data['inputs'], data['mask'])
    cosines = F.cosine_similarity(predictions, joined, dim=-1)
    assert torch.allclose(cosines[:, 0], of_clip[:, 0], atol=1e-5)
    assert torch.allclose(cosines[:, 1:], (of_clip[:, 1:] + of_pixels) / 2, atol=1e-5)


def test_its_checkpoint_speaks_through_the_teacher_with_text(tmp_path):
    model = mvp_mm.get_model('mvp_vittiny_scenes_clip_dino')
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for teacher in ('clip', 'dino'):
        model.neck.standardisers[teacher].train()
    mask = torch.zeros(2, 8, 8, dtype=torch.bool)
    model.loss(images, mask=mask)
    model.eval()
    torch.save(dict(meta=dict(speech=model.speech()), state_dict=model.state_dict()), tmp_path / 'a.pth')
    student = SpeakingStudent(str(tmp_path / 'a.pth'))
    names = ['a red circle', 'a blue square']
    assert student.text_tower.identity == model.text_tower.identity == model.speech()['teacher']['sha256']
    assert torch.equal(student.zero_shot(images, names), model.zero_shot(images, names))
    cls, patches = student.embed_image(images)
    assert cls.shape == (2, 96) and patches.shape == (2, 64, 96)
    # tokens of CLIP itself, as far as so small a student predicts them: on the side of its mean
    target = model.target_generator.teachers.clip(images)[:, 1:].mean((0, 1))
    assert F.cosine_similarity(patches.mean((0, 1)), target, dim=0) > 0.9


def test_one_of_teachers_without_text_says_why():
    model = build(dict(pixels=PIXELS))
    with pytest.raises(ValueError, match='cannot speak: none has a text tower'):
        _ = model.text_tower
    speech = dict(model.speech())
    with pytest.raises(ValueError, match='cannot speak: none has a text tower') as error:
        _ = SpeakingStudent(speech=speech).text_tower
    assert str(error.value).count('cannot speak: ') == 1


def test_a_student_of_timm_predicts_cls(clip):
    small = dict(patch_size=8, embed_dim=48, depth=1, num_heads=3)
    backbone = dict(type='TimmStudent', model_name='vit_tiny_patch16_224', img_size=32, model_args=small)
    config = dict(
        backbone=backbone,
        neck=dict(type='MVPNecks', in_channels=48, out_channels=WIDTHS),
        target_generator=dict(type='TargetGenerators', teachers=dict(clip=clip, pixels=PIXELS)),
    )
    model = MODELS.build(dict(type='MultiTeacherMVP', **copy.deepcopy(config))).train()
    model(**batch(model), mode='loss')['loss'].backward()
    assert all(p.grad is not None for p in model.parameters())
    backbone['cls'] = 'none'
    with pytest.raises(ValueError, match='only one teacher goes with'):
        MODELS.build(dict(type='MultiTeacherMVP', **config))


def test_parts_belong_together(clip):
    several = dict(type='TargetGenerators', teachers=dict(clip=clip))
    heads = dict(type='MVPNecks', in_channels=48, out_channels=dict(clip=24))
    head = dict(type='MVPNeck', in_channels=48, out_channels=24)
    for kind, neck, teacher in (
        ('MVP', head, several),
        ('MVP', heads, several),
        ('MVP', heads, clip),
        ('MultiTeacherMVP', head, clip),
        ('MultiTeacherMVP', head, several),
    ):
        with pytest.raises(ValueError, match="model.type='MultiTeacherMVP', neck.type='MVPNecks'"):
            MODELS.build(
                copy.deepcopy(dict(type=kind, backbone=STUDENT, neck=neck, target_generator=teacher))
            )
    with pytest.raises(ValueError, match="the targets have {'clip': 24}: set model.neck.out_channels"):
        build(dict(clip=clip), neck=dict(out_channels=dict(clip=25)))
    assert not MVP.several


@pytest.mark.slow
def test_a_training_that_is_resumed_equals_one_that_was_not(image_folder, tmp_path):
    """By the real runner, from its checkpoint, while statistics are still counted."""

    def run(name, epochs, resume=False):
        cfg = Config.fromfile(ROOT / 'configs/mvp/vittiny_debug.py')
        cfg.work_dir = str(tmp_path / name)
        cfg.model.type, cfg.resume = 'MultiTeacherMVP', resume
        pixels = dict(PIXELS, patch_size=8)
        cfg.model.target_generator = dict(
            type='TargetGenerators', teachers=dict(a=pixels, b=pixels), drop=0.4
        )
        widths = dict(a=192, b=192)
        cfg.model.neck = dict(type='MVPNecks', in_channels=96, out_channels=widths, batches=5)
        cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
        cfg.train_dataloader.dataset.data_root = str(image_folder)
        cfg.train_dataloader.sampler.total_batch = cfg.auto_scale_lr.base_batch_size = 4
        cfg.train_cfg.max_epochs, cfg.default_hooks.checkpoint.interval = epochs, 1
        cfg.param_scheduler[1].begin = cfg.param_scheduler[0].end = 1
        cfg.param_scheduler[1].end = 4
        build_runner(cfg).train()
        return torch.load(tmp_path / name / f'epoch_{epochs}.pth', weights_only=True)['state_dict']

    whole = run('whole', 4)
    run('cut', 2)
    resumed = run('cut', 4, resume=True)
    assert (
        int(whole['neck.standardisers.a.counter.steps']) == 5 != int(whole['target_generator.counter.steps'])
    )
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


@pytest.mark.slow
def test_published_it_speaks(tmp_path, monkeypatch):
    monkeypatch.setattr('mvp_mm.zoo.custom_zoos._added', [])
    model = mvp_mm.get_model('mvp_vittiny_scenes_clip_dino')
    run = tmp_path / 'my_students'
    run.mkdir()
    cfg = Config.fromfile(ROOT / 'configs/mvp/vittiny_scenes_clip_dino.py')
    cfg.dump(run / 'config.py')
    meta = dict(epoch=1, iter=2, speech=model.speech())
    torch.save(dict(state_dict=model.state_dict(), meta=meta), run / 'epoch_1.pth')
    (run / 'last_checkpoint').write_text(str(run / 'epoch_1.pth'))
    published = publish(run, tmp_path / 'zoo')
    mvp_mm.add_zoo(tmp_path / 'zoo')
    student = mvp_mm.get_model('my_students', pretrained=True)
    images, names = torch.randn(1, 3, 64, 64), ['a red circle', 'a blue square']
    for one in (student, SpeakingStudent(str(published.weights))):
        assert torch.equal(one.zero_shot(images, names), model.zero_shot(images, names))
    export('safetensors', str(run / 'epoch_1.pth'), str(tmp_path / 'student.safetensors'))
    exported = SpeakingStudent(str(tmp_path / 'student.safetensors'))
    assert torch.allclose(exported.zero_shot(images, names), model.zero_shot(images, names), atol=1e-5)
