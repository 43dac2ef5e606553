import hashlib
import json
from pathlib import Path

import open_clip
import pytest
import torch
from mmengine.model import BaseModule
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from mvp_mm.models import CLIPTargetGenerator
from mvp_mm.models.target_generators import clip_weights
from mvp_mm.models.target_generators.clip_weights import load_clip_visual

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


def open_clip_model(path, seed=1):
    """An independent open_clip model of a config file, with weights that hide no mistake."""
    open_clip.add_model_config(Path(path))
    torch.manual_seed(seed)
    model = open_clip.create_model(Path(path).stem).eval()
    for parameter in model.visual.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return model


def saved(model, folder, name='weights.pt'):
    path = Path(folder) / name
    torch.save(model.state_dict(), path)
    return str(path)


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


def test_paper_teacher_is_quick_gelu():
    generator = CLIPTargetGenerator(pretrained=None)
    open_clips = load_clip_visual('ViT-B-16-quickgelu', None)[0]  # the same random weights
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


class TestQuickGELU:
    """It is decided by the tag, a config file beside the weights, OpenAI's sha256 or the user."""

    def test_tag(self, monkeypatch):
        with pytest.raises(ValueError, match="QuickGELU mismatch.*model_name='ViT-B-16-quickgelu'"):
            CLIPTargetGenerator('ViT-B-16', 'openai')
        monkeypatch.setattr(open_clip, 'get_pretrained_cfg', lambda *args: dict(quick_gelu=False))
        with pytest.raises(ValueError, match="QuickGELU mismatch.*model_name='ViT-B-16'"):
            CLIPTargetGenerator('ViT-B-16-quickgelu', 'a-tag')

    def test_local_file_must_tell(self, tiny_clip, tmp_path):
        config = tiny_clip('tell')
        weights = saved(open_clip_model(config), tmp_path)
        with pytest.raises(ValueError, match='does not tell whether.*quick_gelu=True'):
            CLIPTargetGenerator(config, weights, patch_size=8)
        CLIPTargetGenerator(config, weights, quick_gelu=False, patch_size=8)
        with pytest.raises(ValueError, match='QuickGELU mismatch.*"quick_gelu": true'):
            CLIPTargetGenerator(config, weights, quick_gelu=True, patch_size=8)

    def test_metadata_of_a_teacher_trained_here(self, tiny_clip, tmp_path):
        config, path = tiny_clip('metadata'), tmp_path / 'weights.safetensors'
        weights = open_clip_model(config).state_dict()
        save_file(weights, path, dict(quick_gelu='True'))
        with pytest.raises(ValueError, match='True is what follows from the metadata of weights.safetensors'):
            CLIPTargetGenerator(config, str(path), patch_size=8)
        save_file(weights, path, dict(quick_gelu='False'))
        CLIPTargetGenerator(config, str(path), patch_size=8)

    @pytest.mark.parametrize('name', ['open_clip_config.json', 'weights.json'])
    def test_config_file_beside(self, tiny_clip, tmp_path, name):
        config = tiny_clip('beside')
        weights = saved(open_clip_model(config), tmp_path)
        (tmp_path / name).write_text(json.dumps(dict(model_cfg=dict(quick_gelu=True))))
        with pytest.raises(
            ValueError,
            match=f'QuickGELU mismatch.*True is what follows from the config file {name} beside it',
        ):
            CLIPTargetGenerator(config, weights, patch_size=8)
        (tmp_path / name).write_text(json.dumps(dict(model_cfg=dict(quick_gelu=False))))
        CLIPTargetGenerator(config, weights, patch_size=8)

    def test_model_config_in_the_same_folder(self, tiny_clip):
        config = tiny_clip('same', quick_gelu=True)
        weights = saved(open_clip_model(config), Path(config).parent)
        CLIPTargetGenerator(config, weights, patch_size=8)

    def test_openai_sha256(self, tiny_clip, tmp_path, monkeypatch):
        config = tiny_clip('sha')
        weights = saved(open_clip_model(config), tmp_path)
        digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
        monkeypatch.setitem(clip_weights.OPENAI_SHA256, digest, 'tiny')
        with pytest.raises(ValueError, match="QuickGELU mismatch.*OpenAI's published sha256"):
            CLIPTargetGenerator(config, weights, patch_size=8)

    def test_published_sha256_are_open_clips(self):
        listed = {
            Path(open_clip.get_pretrained_cfg(model, 'openai')['url']).parent.name: model
            for model in open_clip.list_pretrained_models_by_tag('openai')
            if 'quickgelu' in model and model.startswith('ViT')
        }
        if set(listed) <= {'', '.'}:
            pytest.skip("this open_clip takes OpenAI's weights from the hub and lists no addresses of theirs")
        assert {digest: listed.get(digest) for digest in clip_weights.OPENAI_SHA256} == dict(
            clip_weights.OPENAI_SHA256
        )


class TestWeightFiles:
    """OpenAI's, open_clip's and safetensors files; nothing that could run code."""

    def test_formats_agree(self, tiny_clip, tmp_path):
        config = tiny_clip('formats')
        model = open_clip_model(config)
        student, _ = crops()
        state = model.state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / 'a.safetensors')
        torch.save(dict(state_dict={f'module.{k}': v for k, v in state.items()}, epoch=3), tmp_path / 'b.pt')
        torch.save(model.visual.state_dict(), tmp_path / 'c.pt')
        targets = [
            CLIPTargetGenerator(config, str(tmp_path / name), quick_gelu=False, patch_size=8)(student)
            for name in ('a.safetensors', 'b.pt', 'c.pt')
        ]
        assert torch.equal(targets[0], targets[1]) and torch.equal(targets[0], targets[2])

    def test_torchscript_only_at_openais_sha256(self, tiny_clip, tmp_path, monkeypatch):
        config = tiny_clip('script', quick_gelu=True)
        model = open_clip_model(config)
        path = tmp_path / 'scripted.pt'
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
        with pytest.raises(ValueError, match='TorchScript archive, which is code'):
            CLIPTargetGenerator(config, str(path), quick_gelu=True, patch_size=8)

        class Holder(nn.Module):
            """Has CLIP's keys, in half precision and with OpenAI's extra entries."""

            def __init__(self):
                super().__init__()
                self.visual = model.visual.half()
                self.register_buffer('input_resolution', torch.tensor(32))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x

        torch.jit.trace(Holder(), torch.zeros(1)).save(str(path))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setitem(clip_weights.OPENAI_SHA256, digest, 'tiny')
        generator = CLIPTargetGenerator(config, str(path), patch_size=8)
        assert generator.teacher.proj.dtype == torch.float32

    def test_pickles_are_not_run(self, tiny_clip, tmp_path):
        import pickle

        target = tmp_path / 'created'

        class Bomb:
            def __reduce__(self):
                return Path.touch, (target,)

        path = tmp_path / 'bomb.pt'
        torch.save(Bomb(), path)
        path2 = tmp_path / 'bomb2.pt'
        path2.write_bytes(pickle.dumps(Bomb()))
        for file in (path, path2):
            with pytest.raises(ValueError, match='no plain weight file'):
                CLIPTargetGenerator(tiny_clip('bomb'), str(file), quick_gelu=False, patch_size=8)
        assert not target.exists()

    def test_wrong_shape_is_named(self, tiny_clip, tmp_path):
        weights = saved(open_clip_model(tiny_clip('narrow')), tmp_path)
        with pytest.raises(ValueError, match=r'visual.class_embedding has shape \(32,\), expected \(64,\)'):
            CLIPTargetGenerator(tiny_clip('wide', width=64), weights, quick_gelu=False, patch_size=8)
        with pytest.raises(ValueError, match='has no visual.transformer.resblocks.2.ln_1.weight'):
            CLIPTargetGenerator(tiny_clip('deep', layers=3), weights, quick_gelu=False, patch_size=8)
        with pytest.raises(ValueError, match='tiny has no|has no visual.transformer.resblocks.1'):
            CLIPTargetGenerator(tiny_clip('flat', layers=1), weights, quick_gelu=False, patch_size=8)


class TestErrors:
    def test_unknown_names(self):
        with pytest.raises(ValueError, match='no model.*did you mean ViT-B-16-quickgelu'):
            CLIPTargetGenerator('ViT-B-16-quikgelu')
        with pytest.raises(FileNotFoundError, match='neither a tag of ViT-B-16-quickgelu .*openai.* nor'):
            CLIPTargetGenerator('ViT-B-16-quickgelu', 'open-ai')
        with pytest.raises(FileNotFoundError, match='no open_clip model config'):
            CLIPTargetGenerator('missing.json')

    def test_offline(self, monkeypatch, tmp_path):
        def unreachable(*args, **kwargs):
            raise OSError('network is unreachable')

        monkeypatch.setattr(open_clip.factory, 'download_pretrained', unreachable)
        with pytest.raises(
            FileNotFoundError,
            match='could not be had.*model.target_generator.pretrained=FILE.*Tried.*unreachable',
        ):
            CLIPTargetGenerator(cache_dir=str(tmp_path))

    @pytest.mark.parametrize('name', ['RN50', 'coca_ViT-B-32', 'ViT-B-16-SigLIP'])
    def test_models_without_patch_tokens(self, name):
        with pytest.raises(ValueError, match='patch tokens.*ViT-B-16-quickgelu'):
            CLIPTargetGenerator(name, None)

    def test_arguments(self, tiny_clip):
        for wrong in (dict(space='pixels'), dict(dtype='int8'), dict(grid_matching='crop')):
            with pytest.raises(ValueError, match=next(iter(wrong.values()))):
                CLIPTargetGenerator(tiny_clip('args'), None, **wrong)
        generator = CLIPTargetGenerator(tiny_clip('args2'), None, patch_size=8)
        with pytest.raises(ValueError, match='36x32 has no whole number of 8-pixel patches'):
            generator(torch.zeros(1, 3, 36, 32))


class TestFrozen:
    def test_hidden_from_training(self, tiny_clip):
        parent = nn.Sequential(CLIPTargetGenerator(tiny_clip('hidden'), None, patch_size=8))
        generator = parent[0]
        assert dict(parent.state_dict()) == {} and list(parent.parameters()) == []
        parent.train()
        assert not any(module.training for module in generator.teacher.modules())
        student, _ = crops()
        assert not generator(student.requires_grad_()).requires_grad

    def test_never_reinitialised_by_mmengine(self, tiny_clip):
        class Parent(BaseModule):
            def __init__(self, child):
                super().__init__(dict(type='Constant', layer=['Linear', 'LayerNorm', 'Conv2d'], val=9.0))
                self.child = child
                self.own = nn.Linear(2, 2)

        generator = CLIPTargetGenerator(tiny_clip('init'), None, patch_size=8)
        before = {key: value.clone() for key, value in generator.teacher.state_dict().items()}
        parent = Parent(generator)
        parent.init_weights()
        assert (parent.own.weight == 9).all()
        for key, value in generator.teacher.state_dict().items():
            assert torch.equal(value, before[key]), key

    def test_random_weights_are_the_same_every_time(self, tiny_clip):
        config = tiny_clip('random')
        torch.manual_seed(5)
        first = CLIPTargetGenerator(config, None, patch_size=8)
        state = torch.get_rng_state()
        second = CLIPTargetGenerator(config, None, patch_size=8)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(first.teacher.proj, second.teacher.proj)

    def test_follows_device_but_not_dtype(self, tiny_clip):
        generator = CLIPTargetGenerator(tiny_clip('move'), None, patch_size=8)
        nn.Sequential(generator).to(torch.bfloat16)
        assert generator.teacher.proj.dtype == torch.float32
        assert generator.student_mean.dtype == torch.float32
        nn.Sequential(generator).to('meta')
        assert generator.teacher.proj.device.type == 'meta' and generator.student_mean.is_meta


class TestPrecision:
    def test_autocast_dtype(self, tiny_clip):
        generator = CLIPTargetGenerator(tiny_clip('bf16'), None, patch_size=8)
        student, _ = crops()
        full = generator(student)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            low = generator(student)
        assert full.dtype == torch.float32 and low.dtype == torch.bfloat16
        assert F.cosine_similarity(full, low.float(), dim=-1).min() > 0.9999
        assert torch.equal(generator(student), full)  # float32 weights were not touched

    @pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
    def test_dtype_asked_for(self, tiny_clip, dtype):
        generator = CLIPTargetGenerator(tiny_clip(dtype), None, patch_size=8, dtype=dtype)
        student, _ = crops()
        assert generator(student).dtype == getattr(torch, dtype)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            assert generator(student).dtype == getattr(torch, dtype)


class TestGrids:
    def test_same_grid_needs_no_resizing(self, tiny_clip):
        generator = CLIPTargetGenerator(tiny_clip('same-grid'), None, patch_size=8)
        assert generator._running_size((32, 32), (4, 4)) == ((32, 32), (4, 4))

    def test_smaller_patches_resize_the_input(self, tiny_clip):
        """Like patch 14 under a patch-16 student: 56 pixels, grid 7, teacher patch 4 -> input 28."""
        generator = CLIPTargetGenerator(tiny_clip('p4', patch_size=4, image_size=32), None, patch_size=8)
        assert generator._running_size((56, 56), (7, 7)) == ((28, 28), (7, 7))
        assert generator(torch.randn(1, 3, 56, 56)).shape == (1, 50, 24)

    def test_larger_patches_resize_the_tokens(self, tiny_clip):
        generator = CLIPTargetGenerator(tiny_clip('p16', patch_size=16, image_size=64), None, patch_size=8)
        assert generator._running_size((64, 64), (8, 8)) == ((64, 64), (4, 4))
        images = torch.randn(1, 3, 64, 64)
        targets = generator(images)
        assert targets.shape == (1, 65, 24)
        coarse = generator.encode(generator.teacher, generator._renormalised(images), (4, 4))
        assert torch.allclose(targets[:, 0], coarse[:, 0], atol=1e-6)
        wanted = F.interpolate(
            coarse[:, 1:].transpose(1, 2).unflatten(2, (4, 4)), (8, 8), mode='bilinear', antialias=True
        )
        assert torch.allclose(targets[:, 1:], wanted.flatten(2).transpose(1, 2), atol=1e-6)

    @pytest.mark.parametrize('matching,run', [('input', (16, 24)), ('tokens', (32, 32)), ('auto', (16, 24))])
    def test_other_and_non_square_sizes(self, tiny_clip, matching, run):
        generator = CLIPTargetGenerator(
            tiny_clip(f'shape-{matching}'), None, patch_size=8, grid_matching=matching
        )
        assert generator._running_size((16, 24), (2, 3))[0] == run
        targets = generator(torch.randn(2, 3, 16, 24))
        assert targets.shape == (2, 7, 24) and targets.isfinite().all()

    def test_positions_are_resized_along_the_right_axes(self, tiny_clip):
        """Positions that vary along rows only must do so after resizing to a non-square grid."""
        generator = CLIPTargetGenerator(tiny_clip('axes'), None, patch_size=8, grid_matching='input')
        positions = generator.teacher.positional_embedding
        rows = torch.linspace(-1, 1, 4).repeat_interleave(4)
        positions.data[1:] = rows[:, None].expand(-1, positions.shape[1])
        from mvp_mm.models.target_generators.clip import _positions

        resized = _positions(generator.teacher, (6, 3))[1:, 0].view(6, 3)
        assert torch.allclose(resized[:, :1].expand(6, 3), resized, atol=1e-5)
        assert (resized[1:, 0] > resized[:-1, 0]).all()
