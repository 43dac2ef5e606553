import open_clip
import pytest
import torch
from clip_models import open_clip_model, saved
from torch.nn import functional as F

from mvp_mm.models import CLIPTargetGenerator
from mvp_mm.models.target_generators.clip_weights import find_clip, load_clip_visual

IMAGENET = (torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375]))
CLIP = (
    torch.tensor([0.48145466, 0.4578275, 0.40821073]),
    torch.tensor([0.26862954, 0.26130258, 0.27577711]),
)


def crops(size=32, batch=3):
    """uint8 images, and the same as the student and the teacher want them."""
    images = torch.randint(0, 256, (batch, 3, size, size), generator=torch.Generator().manual_seed(0)).float()
    shape = (3, 1, 1)
    student = (images - IMAGENET[0].view(shape)) / IMAGENET[1].view(shape)
    teacher = (images / 255 - CLIP[0].view(shape)) / CLIP[1].view(shape)
    return student, teacher


@pytest.mark.parametrize('quick_gelu', [False, True])
@pytest.mark.parametrize('vision', [{}, dict(no_ln_pre=True, pool_type='avg', final_ln_after_pool=True)])
def test_cls_equals_encode_image(tiny_clip, tmp_path, quick_gelu, vision):
    config = tiny_clip('equal', quick_gelu, **vision)
    model = open_clip_model(config)
    generator = CLIPTargetGenerator(config, saved(model, tmp_path), quick_gelu=quick_gelu, patch_size=8)
    student, teacher = crops()
    with torch.no_grad():
        expected = model.encode_image(teacher)
    targets = generator(student)
    assert targets.shape == (3, 17, 24) and targets.dtype == torch.float32
    assert (targets[:, 0] - expected).abs().max() < 1e-5


def by_hand(visual, images, quick_gelu):
    """CLIP's vision branch from its weights alone: pre-norm blocks, then ln_post and proj for each token."""
    state = {key: value.double() for key, value in visual.state_dict().items()}
    width, heads = visual.class_embedding.numel(), visual.transformer.resblocks[0].attn.num_heads

    def norm(x, name):
        return F.layer_norm(x, (width,), state[f'{name}.weight'], state[f'{name}.bias'], 1e-5)

    x = F.conv2d(images.double(), state['conv1.weight'], stride=visual.patch_size)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state['class_embedding'].expand(len(x), 1, -1), x], 1) + state['positional_embedding']
    x = norm(x, 'ln_pre')
    for i in range(len(visual.transformer.resblocks)):
        block = f'transformer.resblocks.{i}'
        y = norm(x, f'{block}.ln_1')
        qkv = y @ state[f'{block}.attn.in_proj_weight'].T + state[f'{block}.attn.in_proj_bias']
        q, k, v = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in qkv.chunk(3, -1))
        weights = (q @ k.transpose(-1, -2) / (width / heads) ** 0.5).softmax(-1)
        y = (weights @ v).transpose(1, 2).flatten(2)
        x = x + y @ state[f'{block}.attn.out_proj.weight'].T + state[f'{block}.attn.out_proj.bias']
        y = norm(x, f'{block}.ln_2') @ state[f'{block}.mlp.c_fc.weight'].T + state[f'{block}.mlp.c_fc.bias']
        y = y * torch.sigmoid(1.702 * y) if quick_gelu else F.gelu(y)
        x = x + y @ state[f'{block}.mlp.c_proj.weight'].T + state[f'{block}.mlp.c_proj.bias']
    hidden = norm(x, 'ln_post')
    return hidden, hidden @ state['proj']


@pytest.mark.parametrize('quick_gelu', [False, True])
def test_every_token_equals_independent_computation(tiny_clip, tmp_path, quick_gelu):
    config = tiny_clip('independent', quick_gelu)
    model = open_clip_model(config)
    weights = saved(model, tmp_path)
    student, teacher = crops()
    hidden, joint = by_hand(model.visual, teacher, quick_gelu)
    for space, expected in (('joint', joint), ('hidden', hidden)):
        generator = CLIPTargetGenerator(config, weights, quick_gelu=quick_gelu, space=space, patch_size=8)
        assert generator.out_channels == expected.shape[-1]
        assert (generator(student) - expected).abs().max() < 1e-5
    wrong, _ = by_hand(model.visual, teacher, not quick_gelu)
    assert (wrong - hidden).abs().max() > 1e-3  # the activation shows in the numbers


def reference_tokens(generator, images):
    """The targets in float32."""
    dtype, generator.dtype = generator.dtype, 'float32'
    tokens = generator(images)
    generator.dtype = dtype
    return tokens


@pytest.mark.slow
def test_paper_teacher_is_quick_gelu():
    generator = CLIPTargetGenerator(pretrained=None)
    open_clips = load_clip_visual(find_clip('ViT-B-16-quickgelu'), None, None, None)[
        0
    ]  # the same random weights
    assert type(open_clips.transformer.resblocks[0].mlp.gelu).__name__ == 'QuickGELU'
    assert generator.teacher_patch_size == 16 and generator.teacher_image_size == (224, 224)
    assert len(generator.teacher.transformer.resblocks) == 12 and generator.out_channels == 512
    student, teacher = crops(224, 1)
    with torch.no_grad():
        expected = open_clips.eval()(teacher)
    assert (generator(student)[:, 0] - expected).abs().max() < 1e-5
    generator.dtype = 'bfloat16'
    cosines = F.cosine_similarity(generator(student).float(), reference_tokens(generator, student), dim=-1)
    assert cosines.min() > 0.9999


class TestErrors:
    def test_unknown_names(self):
        with pytest.raises(ValueError, match='no model.*did you mean ViT-B-16-quickgelu'):
            CLIPTargetGenerator('ViT-B-16-quikgelu')
        with pytest.raises(FileNotFoundError, match='neither a tag of ViT-B-16-quickgelu .*openai.* nor'):
            CLIPTargetGenerator('ViT-B-16-quickgelu', 'open-ai')
        with pytest.raises(FileNotFoundError, match='no open_clip model config'):
            CLIPTargetGenerator('missing.json')

    @pytest.mark.slow
    def test_offline(self, monkeypatch, tmp_path):
        def unreachable(*args, **kwargs):
            raise OSError('network is unreachable')

        monkeypatch.setattr(open_clip.factory, 'download_pretrained', unreachable)
        with pytest.raises(
            FileNotFoundError,
            match='could not be had.*model.target_generator.pretrained=FILE.*Tried.*unreachable',
        ):
            CLIPTargetGenerator(cache_dir=str(tmp_path))

    def test_arguments(self, tiny_clip):
        for wrong in (dict(space='pixels'), dict(dtype='int8'), dict(grid_matching='crop')):
            with pytest.raises(ValueError, match=next(iter(wrong.values()))):
                CLIPTargetGenerator(tiny_clip('args'), None, **wrong)
        generator = CLIPTargetGenerator(tiny_clip('args2'), None, patch_size=8)
        with pytest.raises(ValueError, match='36x32 has no whole number of 8-pixel patches'):
            generator(torch.zeros(1, 3, 36, 32))


@torch.no_grad()
def test_model_whose_vision_branch_gives_two_outputs(tiny_clip):
    """As coca_base: ``output_tokens`` in its config."""
    generator = CLIPTargetGenerator(tiny_clip('two', output_tokens=True), None, patch_size=8)
    plain = CLIPTargetGenerator(tiny_clip('one'), None, patch_size=8)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(generator(images), plain(images))
