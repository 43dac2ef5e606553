"""Teachers of every kind against their own library: tokens, CLS and what is pooled, to 1e-5."""

import json

import open_clip
import pytest
import timm
import torch
from torch import nn

from mvp_mm.models import CLIPTargetGenerator, TimmTargetGenerator

VIT = dict(embed_dim=32, depth=2, num_heads=2)
PYRAMID = dict(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))
CONVNEXT = dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
#: Model, arguments that make it small, expected kind of CLS.
TIMM_QUICK = [
    ('vit_small_patch16_dinov3', VIT, 'token'),
    ('vit_base_patch16_siglip_224', VIT, 'pooled'),
    ('swin_tiny_patch4_window7_224', PYRAMID, 'pooled'),
    ('hiera_tiny_224', dict(embed_dim=16, num_heads=1, stages=(1, 1, 1, 1)), 'pooled'),
    ('convnext_atto', CONVNEXT, 'pooled'),
]
TIMM_SLOW = [
    ('test_vit', {}, 'token'),
    ('test_vit3', {}, 'pooled'),
    ('test_vit2', {}, 'pooled'),
    ('test_vit4', {}, 'pooled'),
    ('test_convnext', {}, 'pooled'),
    ('test_convnext2', {}, 'pooled'),
    ('test_efficientnet', {}, 'pooled'),
    ('test_resnet', {}, 'pooled'),
    ('test_byobnet', {}, 'pooled'),
    ('test_nfnet', {}, 'pooled'),
    ('test_mambaout', {}, None),
    ('vit_base_patch14_reg4_dinov2', VIT, 'token'),
    ('vit_medium_patch16_reg4_gap_256', VIT, 'pooled'),
    ('vit_pe_core_tiny_patch16_384', VIT, 'token'),
    ('vit_relpos_base_patch16_224', VIT, None),
    ('naflexvit_base_patch16_gap', VIT, 'pooled'),
    ('naflexvit_base_patch16_siglip', VIT, 'pooled'),
    ('aimv2_large_patch14_224', VIT, 'pooled'),
    ('samvit_base_patch16_224', VIT, 'pooled'),
    ('deit_tiny_distilled_patch16_224', VIT, 'token'),
    ('deit3_small_patch16_224', VIT, 'token'),
    ('eva02_tiny_patch14_224', VIT, 'token'),
    ('beit_base_patch16_224', VIT, 'token'),
    ('cait_xxs24_224', VIT, 'token'),
    ('xcit_nano_12_p16_224', dict(VIT, embed_dim=64), 'token'),
    ('pit_ti_224', {}, 'pooled'),
    ('levit_128s', {}, 'pooled'),
    ('mixer_s32_224', {}, 'pooled'),
    ('resnet10t', {}, 'pooled'),
    ('swinv2_tiny_window8_256', PYRAMID, 'pooled'),
    ('hiera_small_abswin_256', dict(embed_dim=16, num_heads=1, stages=(1, 1, 1, 1)), 'pooled'),
    ('mvitv2_tiny', {}, None),
    ('pvt_v2_b0', {}, 'pooled'),
    ('fastvit_t8', {}, 'pooled'),
    ('edgenext_xx_small', {}, 'pooled'),
    ('efficientvit_b0', {}, None),
    ('mobilenetv4_conv_small', {}, None),
    ('convnextv2_atto', CONVNEXT, 'pooled'),
    ('regnety_002', {}, 'pooled'),
    ('coat_lite_tiny', {}, None),
    ('crossvit_tiny_240', {}, 'none'),
]


def disturbed(network):
    """Weights that hide no mistake: fresh norms and layer scales are all ones or nearly nothing."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network


def last_map(network, images):
    """``forward_intermediates``' final features and last map ``(B, C, h, w)``."""
    try:
        final, maps = network.forward_intermediates(images, indices=1, norm=True, output_fmt='NCHW')
    except AssertionError:
        final, maps = network.forward_intermediates(images, indices=1, output_fmt='NCHW')
    return final, maps[-1]


def expected_patches(network, images):
    """Patch tokens ``(B, h * w, C)`` by timm alone: of the last map, normed, or of the map that is pooled."""
    final, last = last_map(network, images)
    if isinstance(final, torch.Tensor) and final.ndim == 4:
        return (final if final.shape[-2:] == last.shape[-2:] else final.permute(0, 3, 1, 2)).flatten(2).mT
    tokens = last.flatten(2).mT
    if hasattr(network, 'cls_attn_blocks'):  # of XCiT, which come after the map and change the patches
        return network.forward_features(images)[:, 1:]
    norm = getattr(network, 'fc_norm', None)
    return norm(tokens) if norm is not None and isinstance(network.norm, nn.Identity) else tokens


@torch.no_grad()
def compare_with_timm(monkeypatch, name, small, kind, others=False):
    create = timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda *args, **options: disturbed(create(*args, **options)))
    patch = 16
    probe = TimmTargetGenerator(name, None, model_args=small, patch_size=patch)
    # a student whose grid is the teacher's own: nothing is resized but the crop
    own = tuple(side // probe.teacher_patch_size * patch for side in probe.teacher_image_size)
    assert kind is None or probe.cls == kind
    images = torch.randn(2, 3, *own, generator=torch.Generator().manual_seed(0))
    seen, grid, _ = probe._as_the_teacher_sees(images)
    targets, extra, network = probe(images), probe.num_extra_tokens, probe.teacher
    assert targets.shape == (2, extra + grid[0] * grid[1], probe.out_channels)
    assert (targets[:, extra:] - expected_patches(network, seen)).abs().max() < 1e-5
    features = network.forward_features(seen)
    if probe.cls == 'pooled':
        assert (targets[:, 0] - network.forward_head(features, pre_logits=True)).abs().max() < 1e-5
    elif probe.cls == 'token':
        norm = network.fc_norm if isinstance(getattr(network, 'norm', None), nn.Identity) else nn.Identity()
        assert (targets[:, 0] - norm(features)[:, 0]).abs().max() < 1e-5
    if not others:
        return
    if probe.cls != 'none':
        patches_only = TimmTargetGenerator(name, None, model_args=small, patch_size=patch, cls='none')
        assert patches_only.num_extra_tokens == 0
        assert (patches_only(images) - targets[:, 1:]).abs().max() < 1e-5
    # the same teacher under a finer student
    finer = TimmTargetGenerator(name, None, model_args=small, patch_size=patch // 2)
    assert finer(images[:1]).shape[1] == extra + 4 * grid[0] * grid[1]


@pytest.mark.parametrize('name,small,kind', TIMM_QUICK)
def test_timm(monkeypatch, name, small, kind):
    compare_with_timm(monkeypatch, name, small, kind, others=True)


@pytest.mark.slow
@pytest.mark.parametrize('name,small,kind', TIMM_SLOW)
def test_timm_slow(monkeypatch, name, small, kind):
    compare_with_timm(monkeypatch, name, small, kind)


def trunk(name, pool, projection):
    """A vision config of open_clip around a timm network."""
    return dict(timm_model_name=name, timm_pool=pool, timm_proj=projection)


#: open_clip's vision configs, the joint space's kind of CLS (None: there is none), the hidden space's.
NATIVE = dict(image_size=32, patch_size=8, width=32, layers=2, head_width=16)
CLIPS = {
    'vit': (NATIVE, 'token', 'token'),
    'mean': (dict(NATIVE, pool_type='avg', final_ln_after_pool=True, no_ln_pre=True), 'pooled', 'pooled'),
    'coca': (dict(NATIVE, attentional_pool=True, attn_pooler_heads=4), None, 'none'),
    'resnet': (dict(image_size=64, layers=[1, 1, 1, 1], width=8, head_width=8), None, 'none'),
    'siglip': (trunk('vit_base_patch16_siglip_224', 'map', 'none'), None, 'pooled'),
    'convnext': (trunk('test_convnext', '', 'linear'), 'pooled', 'pooled'),
    'mlp': (trunk('test_convnext', '', 'mlp'), 'pooled', 'pooled'),
    'gap': (trunk('vit_medium_patch16_reg4_gap_256', 'avg', 'linear'), 'pooled', 'pooled'),
    'token': (trunk('test_vit', 'token', None), 'token', 'token'),
    'classifier': (trunk('test_efficientnet', 'avg', None), 'pooled', 'pooled'),
    'abs_attn': (trunk('resnet10t', 'abs_attn', None), None, 'none'),
}
CLIPS_QUICK = ('vit', 'coca', 'siglip', 'convnext')


@torch.no_grad()
@pytest.mark.parametrize(
    'name',
    [name if name in CLIPS_QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CLIPS],
)
def test_open_clip(name, tmp_path, monkeypatch):
    vision, joint, hidden = CLIPS[name]
    if network := vision.get('timm_model_name'):
        monkeypatch.setattr(timm.models.vision_transformer, 'VisionTransformer', small_vit())
        vision = dict(vision, image_size=timm.get_pretrained_cfg(network).input_size[-1])
    text = dict(context_length=4, vocab_size=8, width=8, heads=1, layers=1)
    config = dict(embed_dim=24, vision_cfg=vision, text_cfg=text)
    path = tmp_path / f'{name}.json'
    path.write_text(json.dumps(config))
    build = open_clip.CLIP
    torch.manual_seed(0)
    model = disturbed(build(**config).eval())
    weights = tmp_path / 'weights.pt'
    torch.save(model.state_dict(), weights)
    for space, kind in (('joint', joint), ('hidden', hidden)):
        options = dict(space=space, quick_gelu=False, patch_size=16)
        if kind is None:
            with pytest.raises(ValueError, match="pools its patch tokens by attention.*use space='hidden'"):
                CLIPTargetGenerator(str(path), str(weights), **options)
            continue
        generator = CLIPTargetGenerator(str(path), str(weights), **options)
        assert generator.cls == kind
        own = tuple(side // generator.teacher_patch_size * 16 for side in generator.teacher_image_size)
        images = torch.randn(2, 3, *own, generator=torch.Generator().manual_seed(0))
        seen, grid, _ = generator._as_the_teacher_sees(images)
        targets, extra = generator(images), generator.num_extra_tokens
        assert targets.shape == (2, extra + grid[0] * grid[1], generator.out_channels)
        if kind != 'none' and (space == 'joint' or name == 'siglip'):
            assert (targets[:, 0] - model.encode_image(seen)).abs().max() < 1e-5
        patches = clip_patches(model.visual, seen, name)
        if space == 'joint':
            patches = clip_joint(model.visual, patches)
        assert (targets[:, extra:] - patches).abs().max() < 1e-5


def small_vit():
    """timm's vision transformer, two narrow layers of any."""

    class Small(timm.models.vision_transformer.VisionTransformer):
        def __init__(self, *args, **options):
            super().__init__(*args, **dict(options, embed_dim=32, depth=2, num_heads=2))

    return Small


def clip_patches(visual, images, name):
    """Tokens before the projection by open_clip's and timm's own functions."""
    if hasattr(visual, 'trunk'):
        return expected_patches(visual.trunk, images)
    if name == 'resnet':
        seen = []
        visual.attnpool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        visual(images)
        return seen[0].flatten(2).mT
    found = visual.forward_intermediates(images, indices=1, output_fmt='NLC', intermediates_only=True)
    tokens = found['image_intermediates'][-1]
    return tokens if name == 'coca' else visual.ln_post(tokens)


def clip_joint(visual, tokens):
    """The embedding of each patch by itself."""
    if not hasattr(visual, 'trunk'):
        return tokens @ visual.proj
    if hasattr(visual.trunk, 'fc_norm'):
        return visual.head(visual.trunk.head(tokens))
    alone = tokens.flatten(0, 1)[:, :, None, None]
    return visual.head(visual.trunk.forward_head(alone)).unflatten(0, tokens.shape[:2])
