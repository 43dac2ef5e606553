import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from torch import nn
from torch.nn import functional as F

from mvp_mm.datasets import UnlabelledImages
from mvp_mm.evaluation import target_cosine
from mvp_mm.models import MVPLoss
from mvp_mm.models.speaking.speaking_student import SpeakingStudent

ROOT = Path(__file__).parents[3]


def tiny_config(tiny_clip, **target_generator) -> Config:
    cfg = Config.fromfile(ROOT / 'configs/mvp/vittiny_debug.py')
    cfg.model.backbone.update(
        img_size=32,
        drop_path_rate=0.0,
        arch=dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=96),
    )
    cfg.model.neck = dict(type='MVPNeck', in_channels=48, out_channels=24)
    cfg.model.target_generator.update(model_name=tiny_clip('mvp'), **target_generator)
    return cfg


@pytest.fixture
def model(tiny_clip):
    torch.manual_seed(0)
    return MODELS.build(tiny_config(tiny_clip).model)


def batch(model, size=4):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (size, 3, 32, 32), generator=generator, dtype=torch.uint8)
    mask = torch.rand(size, 4, 4, generator=generator) < 0.4
    return model.data_preprocessor(dict(inputs=images, mask=mask))


def test_loss_is_equations_7_to_9(model):
    data = batch(model)
    out = model.loss(**data)
    targets = model.target_generator(data['inputs'])
    (tokens,) = model.backbone(data['inputs'], data['mask'])
    cosines = F.cosine_similarity(model.neck(tokens), targets, dim=-1)
    assert out['loss'].item() == pytest.approx(-cosines.mean().item(), abs=1e-6)
    masked = data['mask'].flatten(1)
    assert out['cosine_cls'].item() == pytest.approx(cosines[:, 0].mean().item(), abs=1e-6)
    assert out['cosine_masked'].item() == pytest.approx(cosines[:, 1:][masked].mean().item(), abs=1e-6)
    assert out['cosine_visible'].item() == pytest.approx(cosines[:, 1:][~masked].mean().item(), abs=1e-6)
    assert -1 <= out['loss'].item() <= 1
    assert [key for key, value in out.items() if value.requires_grad] == ['loss']


def test_a_loss_of_ones_own_is_called(tiny_clip):
    class Squared(nn.Module):
        def forward(self, pred, target, mask):
            return (pred - target).square()[:, 1:][mask.flatten(1)].mean()

    class Doubled(MVPLoss):
        def forward(self, pred, target, mask=None):
            return 2 * super().forward(pred, target, mask)

    torch.manual_seed(0)
    model = MODELS.build(tiny_config(tiny_clip).model).eval()
    data = batch(model)
    plain = model.loss(**data)['loss']
    predictions, targets = model.predict(data['inputs'], data['mask'])
    for loss, expected in (
        (Squared(), Squared()(predictions, targets, data['mask'])),
        (Doubled(), 2 * plain),
    ):
        model.loss_module = loss
        assert model.loss(**data)['loss'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_student_starts_from_any_weight_file(tiny_clip, tmp_path):
    cfg = tiny_config(tiny_clip).model
    trained = MODELS.build(cfg).backbone
    for parameter in trained.parameters():
        nn.init.normal_(parameter)
    torch.save(trained.state_dict(), tmp_path / 'student.pth')  # a bare backbone
    model = MODELS.build(dict(cfg, pretrained=str(tmp_path / 'student.pth')))
    model.init_weights()
    assert all(
        torch.equal(value, trained.state_dict()[key]) for key, value in model.backbone.state_dict().items()
    )


def test_teacher_without_a_target_for_cls(tiny_clip):
    """The loss is that of the patches, which CLS still helps to predict."""
    torch.manual_seed(0)
    model = MODELS.build(tiny_config(tiny_clip, cls='none').model)
    data = batch(model)
    out = model.loss(**data)
    targets = model.target_generator(data['inputs'])
    (tokens,) = model.backbone(data['inputs'], data['mask'])
    assert targets.shape[1] == tokens.shape[1] - 1 == 16
    cosines = F.cosine_similarity(model.neck(tokens)[:, 1:], targets, dim=-1)
    assert out['loss'].item() == pytest.approx(-cosines.mean().item(), abs=1e-6)
    assert set(out) == {'loss', 'cosine_visible', 'cosine_masked'}
    out['loss'].backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    predictions, targets = model.predict(data['inputs'], data['mask'])
    assert predictions.shape == targets.shape
    # nothing has taught CLS to answer, in training and from a file
    assert model.embed_image(data['inputs'])[0] is None
    student = SpeakingStudent(speech=model.speech())
    assert student.embed_image(data['inputs'])[0] is None
    taught = MODELS.build(tiny_config(tiny_clip).model)
    assert SpeakingStudent(speech=taught.speech()).embed_image(data['inputs'])[0].shape == (4, 24)


def test_teacher_sees_what_the_student_does_not(model):
    model.eval()
    data = batch(model)
    changed = data['inputs'].clone()
    pixels = data['mask'].repeat_interleave(8, 1).repeat_interleave(8, 2)
    changed[pixels[:, None].expand_as(changed)] += 1
    before = model.predict_tokens(data['inputs'], data['mask'])
    assert torch.equal(model.predict_tokens(changed, data['mask']), before)
    assert not torch.allclose(model.extract_targets(changed), model.extract_targets(data['inputs']))


def test_every_parameter_learns_and_the_teacher_is_none_of_them(model):
    model.loss(**batch(model))['loss'].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    prefixes = {name.split('.')[0] for name in model.state_dict()}
    assert prefixes == {'backbone', 'neck'}
    student_and_neck = [*model.backbone.state_dict().values(), *model.neck.state_dict().values()]
    assert sum(v.numel() for v in model.state_dict().values()) == sum(v.numel() for v in student_and_neck)


def test_modes(model):
    data = batch(model)
    (tokens,) = model(data['inputs'], mode='tensor')
    assert tokens.shape == (4, 17, 48)
    assert model(**data, mode='loss')['loss'].requires_grad
    predictions, targets = model(**data, mode='predict')
    assert predictions.shape == targets.shape == (4, 17, 24)
    with pytest.raises(ValueError, match="mode='train'"):
        model(**data, mode='train')
    with pytest.raises(ValueError, match='needs a mask'):
        model(data['inputs'], mode='loss')


def test_parts_that_do_not_fit_are_refused(tiny_clip):
    for change, match in [
        (dict(neck=dict(type='MVPNeck', in_channels=48, out_channels=512)), 'neck.out_channels=24'),
        (dict(neck=dict(type='MVPNeck', in_channels=96, out_channels=24)), 'neck.in_channels=48'),
        (dict(data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3)), 'student_mean/student_std'),
    ]:
        cfg = tiny_config(tiny_clip).model
        cfg.update(change)
        with pytest.raises(ValueError, match=match):
            MODELS.build(cfg)
    with pytest.raises(ValueError, match='target_generator.patch_size'):
        MODELS.build(tiny_config(tiny_clip, patch_size=16).model)


@pytest.mark.slow
def test_overfits_64_photographs(photographs, tiny_clip):
    """Fixed crops and masks are memorised: far beyond what needs no look at the image."""
    cfg = tiny_config(tiny_clip)
    cfg.model.backbone.arch.update(embed_dims=128, num_heads=4, feedforward_channels=512, num_layers=3)
    cfg.model.neck.in_channels = 128
    pipeline = cfg.test_pipeline
    pipeline[1].size, pipeline[2].size = 36, 32
    pipeline[3].update(input_size=4, num_masking_patches=6, min_num_patches=2)
    dataset = UnlabelledImages(photographs, pipeline=pipeline, indices=64, fixed_draws=True)
    samples = [dataset[index] for index in range(64)]
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    data = model.data_preprocessor(
        {key: torch.stack([sample[key] for sample in samples]) for key in ('inputs', 'mask')}
    )
    targets = model.extract_targets(data['inputs'])  # the same in every step
    steps = 350
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        predictions = model.predict_tokens(data['inputs'], data['mask'])
        model.compare_tokens(predictions, targets, data['mask'])['loss'].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        predictions, targets = model(data['inputs'], mask=data['mask'], mode='predict')
    figures = target_cosine.figures(target_cosine.token_sums(predictions, targets, data['mask']))
    assert figures['cosine'] > 0.9, figures
    assert figures['excess'] > 0.3, figures
    assert figures['shuffled'] < figures['constant'], figures
    # the training loss itself, with images and targets apart
    with torch.no_grad():
        wrong = model.predict_tokens(data['inputs'].roll(1, 0), data['mask'])
        apart = model.loss_module(wrong, model.extract_targets(data['inputs'])).item()
    assert apart > -figures['cosine'] + 0.3


def test_what_a_checkpoint_records(tiny_clip, model):
    """The configs of student and head, the teacher's identity, the images' statistics, all plain."""
    cfg = tiny_config(tiny_clip)
    speech = model.speech()
    assert speech['backbone'] == {k: v for k, v in cfg.model.backbone.to_dict().items() if k != 'init_cfg'}
    assert (
        speech['neck'] == cfg.model.neck.to_dict() and speech['teacher'] == model.target_generator.identity()
    )
    assert torch.equal(torch.tensor(speech['std']), model.data_preprocessor.std.flatten())
    assert json.loads(json.dumps(speech)) == speech
    parts = dict(backbone=model.backbone, neck=model.neck, target_generator=model.target_generator)
    assert type(model)(**parts).speech() is None  # of modules nothing tells the arguments
