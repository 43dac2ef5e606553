import copy
from functools import cache

import pytest
import timm
import torch

from mvp_mm.export import export
from mvp_mm.models import MVP, TimmStudent
from mvp_mm.models.speaking.speaking_student import SpeakingStudent
from mvp_mm.models.student import Student
from mvp_mm.models.target_generators.timm_tokens import TimmTokens
from mvp_mm.weights import load

VIT = dict(embed_dim=48, depth=2, num_heads=2)
STAGES = dict(embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2))
# name: size, arguments that make it small, how it masks
FAMILIES = {
    'vit_tiny_patch16_224': (64, VIT, 'token'),
    'vit_small_patch16_dinov3': (64, VIT, 'token'),
    'convnext_atto': (64, dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)), 'colour'),
    'deit3_small_patch16_224': (64, VIT, 'token'),
    'eva02_tiny_patch14_224': (56, VIT, 'token'),
    'beit_base_patch16_224': (64, VIT, 'token'),
    'vit_small_patch14_reg4_dinov2': (56, VIT, 'token'),
    'vit_base_patch16_siglip_224': (64, VIT, 'token'),
    'vit_base_patch16_reg4_gap_256': (64, VIT, 'token'),
    'flexivit_small': (64, VIT, 'token'),
    'naflexvit_base_patch16_gap': (64, VIT, 'token'),
    'cait_xxs24_224': (64, dict(VIT, depth_token_only=1), 'token'),
    'xcit_nano_12_p16_224': (64, VIT, 'token'),
    'hiera_tiny_224': (64, dict(embed_dim=24, num_heads=1, stages=(1, 1, 1, 1)), 'colour'),
    'swin_tiny_patch4_window7_224': (64, dict(STAGES, window_size=2), 'colour'),
    'mobilenetv4_conv_small_050': (64, {}, 'colour'),
    'test_efficientnet': (64, {}, 'colour'),
    'test_resnet': (64, {}, 'colour'),
}
QUICK = list(FAMILIES)[:3]
EACH = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


def student(name, **settings):
    torch.manual_seed(0)
    size, arguments, _ = FAMILIES[name]
    return TimmStudent(name, img_size=size, model_args=arguments, **settings)


def batch(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, *model.img_size, generator=generator)
    return images, torch.rand(2, *model.grid, generator=generator) < 0.4


@cache
def shape(name):
    model = student(name)
    return model.patch_size, model.embed_dims


def method(name, **settings):
    (side, width), (size, arguments, _) = shape(name), FAMILIES[name]
    torch.manual_seed(0)
    return MVP(
        backbone=dict(type='TimmStudent', model_name=name, img_size=size, model_args=arguments, **settings),
        neck=dict(type='MVPNeck', in_channels=width, out_channels=3 * side**2),
        target_generator=dict(type='PixelTargetGenerator', patch_size=side),
    )


def optimizer_of(model):
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)


def step(model, optimizer, seed):
    torch.manual_seed(seed)
    optimizer.zero_grad()
    loss = model.loss(*(batch(model.backbone, seed)[0], None, batch(model.backbone, seed)[1]))['loss']
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize('name', EACH)
@torch.no_grad()
def test_equals_timm(name):
    """Whole: timm's own features, bit for bit. Masked: the mask put in by hand."""
    model = student(name).eval()
    assert isinstance(model, Student) and model.masks_by == FAMILIES[name][2]
    entry, arguments = model.timm_model()
    network = timm.create_model(entry, **arguments).eval()
    network.load_state_dict(model.network.state_dict())
    images, mask = batch(model)

    def by_timm(images):
        out = network.forward_features(images)
        if out.ndim == 4:
            out = out.flatten(1, 2) if getattr(network, 'output_fmt', '') == 'NHWC' else out.flatten(2).mT
        return out

    expected, extra = by_timm(images), getattr(network, 'num_prefix_tokens', 0)
    cls, patches = model.encode_image(images)
    assert torch.equal(patches, expected[:, extra:]) and patches.shape == (
        2,
        mask[0].numel(),
        model.embed_dims,
    )
    assert torch.equal(cls, expected[:, 0]) if model.has_cls else cls is None

    if model.mask_token is None:
        model.mask_colour.copy_(torch.tensor([0.3, -0.2, 0.1]).view(1, 3, 1, 1))
        painted, side = images.clone(), model.patch_size
        for image, row, col in mask.nonzero().tolist():
            rows, cols = (slice(at * side, (at + 1) * side) for at in (row, col))
            painted[image, :, rows, cols] = model.mask_colour[0]
        by_hand = by_timm(painted)
    else:
        embedding = network.embeds.proj if hasattr(network, 'embeds') else network.patch_embed
        forward = embedding.forward

        def with_token(*args, **kwargs):
            out = forward(*args, **kwargs)
            tokens = (out[0] if isinstance(out, tuple) else out).clone()
            tokens[mask.flatten(1) if tokens.ndim == 3 else mask] = model.mask_token[0, 0]
            return (tokens, *out[1:]) if isinstance(out, tuple) else tokens

        embedding.forward = with_token
        by_hand = by_timm(images)
    cls, masked = model.encode_image(images, mask)
    assert torch.equal(masked, by_hand[:, extra:]) and not torch.equal(masked, patches)
    again = model.encode_image(images)[1]
    assert torch.equal(again, patches)  # nothing is left behind


@pytest.mark.parametrize('name', EACH)
def test_trains_resumes_and_goes_back_to_timm(name, tmp_path):
    model = method(name)
    optimizer = optimizer_of(model)
    step(model, optimizer, 1)
    kept = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    losses = [step(model, optimizer, seed) for seed in (2, 3)]
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)

    resumed = method(name)
    resumed.load_state_dict(kept[0])
    other = optimizer_of(resumed)
    other.load_state_dict(kept[1])
    assert [step(resumed, other, seed) for seed in (2, 3)] == losses
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in model.state_dict().items())

    path, out = tmp_path / 'epoch_1.pth', tmp_path / 'timm.pth'
    torch.save(dict(meta=dict(speech=model.speech()), state_dict=model.state_dict()), path)
    report = export('timm', str(path), out)
    assert report.passed and 'timm.create_model' in str(report)
    entry, arguments = model.backbone.timm_model()
    network = timm.create_model(entry, checkpoint_path=str(out), **arguments).eval()
    images, _ = batch(model.backbone)
    theirs = model.eval().backbone.encode_by(network, images)[1]
    assert torch.equal(theirs, model.backbone.encode_image(images)[1])

    alone = student(name, out_type='featmap').eval()
    assert alone.mask_token is None and alone.mask_colour is None
    load(alone, str(path))
    load(alone, str(out))  # timm's own names
    assert torch.equal(alone.encode_image(images)[1], theirs)
    assert torch.equal(SpeakingStudent(str(path)).encode_image(images)[1], theirs)


def test_what_predicts_cls():
    images = torch.randn(2, 3, 64, 64)
    pooled = student('vit_base_patch16_siglip_224').eval()
    cls, patches = pooled.head_tokens(images)
    assert torch.equal(cls, pooled.network(images))  # attention pooling
    assert torch.equal(pooled(images)[0], torch.cat([cls[:, None], patches], dim=1))
    mean = student('mobilenetv4_conv_small_050').eval()  # its head is wider than its map
    assert torch.equal(mean.head_tokens(images)[0], mean.encode_image(images)[1].mean(1))
    assert not mean.network.conv_head.weight.requires_grad  # in no output
    none = student('convnext_atto', cls='none').eval()
    assert none.head_tokens(images)[0] is None and none(images)[0].shape[1] == 4
    beit = student('beit_base_patch16_224').eval()  # norms only what it pools
    cls, patches = beit.encode_image(images)
    assert torch.equal(beit.head_tokens(images)[1], beit.network.fc_norm(patches))
    assert torch.equal(beit.head_tokens(images)[0], beit.network.fc_norm(cls))
    rms = TimmStudent('test_vit4', img_size=64).eval()
    rms_teacher = TimmTokens.of(rms.network, rms.img_size)
    with torch.no_grad():
        norm = rms.network.fc_norm
        assert type(norm).__name__ == 'RmsNorm' and norm.weight.uniform_() is norm.weight
        patches = rms.head_tokens(images)[1]
        assert torch.equal(patches, norm(rms.encode_image(images)[1]))
        assert torch.equal(patches, rms_teacher.encode(rms.network, images, 'none'))  # as a teacher's


def test_mvp_with_students_without_cls():
    """The pooled features meet the target of CLS, by text too; or that target is dropped."""
    pooled = method('vit_base_patch16_siglip_224').eval()
    images, mask = batch(pooled.backbone)
    cls, patches = pooled.embed_image(images)
    assert torch.equal(cls, pooled.neck(pooled.backbone.network(images))) and patches.shape[1] == 16
    none = method('vit_base_patch16_siglip_224', cls='none').eval()
    targets, predictions = none.extract_targets(images), none.predict_tokens(images, mask)
    assert torch.equal(targets, pooled.extract_targets(images)[:, 1:])
    assert predictions.shape == targets.shape and none.embed_image(images)[0] is None
    loss = none.loss(images, None, mask)
    expected = -torch.nn.functional.cosine_similarity(predictions, targets, dim=-1).mean()
    assert torch.allclose(loss['loss'], expected) and 'cosine_cls' not in loss


@pytest.mark.parametrize('name', QUICK)
def test_outputs_downstream(name):
    images = torch.randn(2, 3, 64, 64)
    levels = student(name, out_type='featmap', out_indices=(0, 1)).eval()
    expected = levels.network.forward_intermediates(images, indices=[0, 1], intermediates_only=True)
    assert all(torch.equal(*pair) for pair in zip(levels(images), expected, strict=True))
    assert [level.shape[1] for level in expected] == levels.channels[:2]
    pooled = student(name, out_type='pooled').eval()
    assert torch.equal(pooled(images)[0], pooled.network(images))
    frozen = student(name, frozen_stages=9).train()
    assert not any(p.requires_grad for p in frozen.parameters()) and not frozen.network.training


def test_tokens_of_inner_blocks():
    images = torch.randn(2, 3, 64, 64)
    model = student('vit_tiny_patch16_224', out_indices=(0, 1)).eval()
    blocks = []
    model.network.blocks[0].register_forward_hook(lambda *args: blocks.append(args[2]))
    first, last = model(images)
    assert torch.equal(first, blocks[0]) and torch.equal(last, model.network.forward_features(images))


def test_finer_tokens():
    model = student('convnext_atto', patch_size=16).eval()
    images, mask = batch(model)
    assert mask.shape[1:] == (4, 4) and model.encode_image(images, mask)[1].shape == (2, 16, 32)
    own = model.network.forward_features(images)
    expected = torch.nn.functional.interpolate(own, (4, 4), mode='bilinear').flatten(2).mT
    assert torch.equal(model.encode_image(images)[1], expected)


def test_images_of_other_sizes_are_padded():
    model = student('vit_small_patch16_dinov3').eval()
    images = torch.randn(1, 3, 70, 40)
    padded = torch.nn.functional.pad(images, (0, 8, 0, 10))
    expected = model.network.forward_features(padded)[:, model.network.num_prefix_tokens :]
    assert torch.equal(model.encode_image(images)[1], expected)


def test_positions_of_another_size_are_resized_by_timm(tmp_path):
    small = student('vit_tiny_patch16_224')
    torch.save(dict(state_dict=small.state_dict(prefix='backbone.')), tmp_path / 'a.pth')
    large = TimmStudent(
        'vit_tiny_patch16_224',
        img_size=96,
        model_args=VIT,
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth')),
    )
    large.init_weights()
    resized = timm.layers.resample_abs_pos_embed(small.network.pos_embed, (6, 6), (4, 4))
    assert torch.equal(large.network.pos_embed, resized)
    assert torch.equal(large.mask_token, small.mask_token)


def test_layer_depths_are_timms():
    model = student('vit_tiny_patch16_224')
    depths = {
        name: model.get_layer_depth(name, 'backbone.') for name in ('backbone.mask_token', 'neck.fc.weight')
    }
    assert depths == {'backbone.mask_token': (0, 4), 'neck.fc.weight': (3, 4)}
    assert model.get_layer_depth('backbone.network.patch_embed.proj.weight', 'backbone.') == (0, 4)
    assert model.get_layer_depth('backbone.network.blocks.1.attn.qkv.weight', 'backbone.') == (2, 4)


def test_public_weights(monkeypatch):
    """Without a network the answer says what to do; with one, timm's weights are taken over."""
    created, asked = timm.create_model, []

    def create(name, pretrained=False, **kwargs):
        if pretrained:
            asked.append(name)
            torch.manual_seed(7)
        return created(name, **kwargs)

    monkeypatch.setattr(timm, 'create_model', create)
    name = 'vit_tiny_patch16_224.augreg_in21k'
    init_cfg = dict(type='Pretrained', checkpoint=f'timm:{name}')
    torch.manual_seed(0)
    model = TimmStudent(name, img_size=32, model_args=VIT, init_cfg=init_cfg)
    assert asked == []
    model.init_weights()
    torch.manual_seed(7)
    expected = created(name, img_size=32, num_classes=0, **VIT).state_dict()
    assert asked == [name] and all(torch.equal(model.network.state_dict()[k], v) for k, v in expected.items())

    def offline(name, pretrained=False, **kwargs):
        if pretrained:
            raise OSError('no network')
        return created(name, **kwargs)

    monkeypatch.setattr(timm, 'create_model', offline)
    with pytest.raises(FileNotFoundError, match='copy the file to this machine'):
        TimmStudent(name, pretrained=True, img_size=32, model_args=VIT)


@pytest.mark.parametrize(
    'settings, told',
    [
        (dict(model_name='vit_tinny_patch16_224'), 'did you mean'),
        (dict(out_type='map'), 'is none of'),
        (dict(cls='first'), 'is none of'),
        (dict(patch_size=5), 'no divisor of 16'),
        (dict(out_indices=4), '2 feature levels'),
        (dict(model_name='test_resnet', model_args={}, cls='token'), 'has no CLS token'),
        (dict(init_cfg=dict(type='Normal')), "expected type='Pretrained'"),
        (dict(model_args=dict(depht=2)), 'unexpected keyword'),
        (dict(model_name='crossvit_tiny_240', img_size=240, model_args={}), 'cannot be a student'),
    ],
)
def test_refusals(settings, told):
    usual = dict(model_name='vit_tiny_patch16_224', img_size=32, model_args=VIT)
    with pytest.raises(ValueError, match=told):
        TimmStudent(**{**usual, **settings})


def test_masks_that_do_not_fit():
    model, images = student('vit_tiny_patch16_224'), torch.randn(2, 3, 64, 64)
    with pytest.raises(ValueError, match='must agree on crop and patch size'):
        model(images, torch.zeros(2, 8, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match='with_mask_token=True'):
        student('vit_tiny_patch16_224', out_type='pooled')(images, torch.zeros(2, 4, 4, dtype=torch.bool))


def test_a_file_of_another_network_is_refused(tmp_path):
    deeper = timm.create_model('vit_tiny_patch16_224', img_size=64, num_classes=0, **dict(VIT, depth=3))
    torch.save(deeper.state_dict(), tmp_path / 'deeper.pth')
    with pytest.raises(ValueError, match='blocks.2'):
        load(student('vit_tiny_patch16_224'), str(tmp_path / 'deeper.pth'))


def test_attention_of_a_student_that_learns_in_bf16():
    """By timm's written-out attention: the backward pass of torch's fused kernel is slow in bf16 on a CPU."""
    student = TimmStudent('vit_tiny_patch16_224', img_size=32, patch_size=16, model_args=dict(depth=1))
    images = torch.randn(2, 3, 32, 32)
    fused = []
    student.network.blocks[0].attn.register_forward_hook(lambda module, *_: fused.append(module.fused_attn))
    for learns, half in ((True, True), (True, False), (False, True)):
        student.train(learns)
        with torch.autocast('cpu', torch.bfloat16, enabled=half):
            student(images)
    assert fused == [False, True, True]
