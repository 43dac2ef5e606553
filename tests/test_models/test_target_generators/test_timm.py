import json

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from mvp_mm.models import TimmTargetGenerator
from mvp_mm.models.target_generators.timm import timm_width

MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])


def test_dino_tokens_are_timms():
    """Table 5's teacher: ImageNet statistics, all tokens after the final norm, width 768."""
    generator = TimmTargetGenerator(pretrained=None, model_args=dict(depth=2))
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = generator.teacher.forward_features(images)
    assert generator.out_channels == 768 and generator.teacher_patch_size == 16
    assert not isinstance(generator.teacher.norm, torch.nn.Identity)
    assert (generator(images) - expected).abs().max() < 1e-4


def test_teacher_statistics():
    generator = TimmTargetGenerator('test_vit', pretrained=None, patch_size=16)
    images = torch.rand(2, 3, 160, 160) * 255
    config = generator.teacher.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ('mean', 'std'))
    with torch.no_grad():
        expected = generator.teacher.forward_features((images / 255 - mean) / std)
    got = generator((images - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1))
    assert config['mean'] != (0.485, 0.456, 0.406)
    assert (got - expected).abs().max() < 1e-4


def test_identity_tells_teachers_apart():
    known = [
        TimmTargetGenerator(name, pretrained=None, patch_size=16).identity()
        for name in ('test_vit', 'test_vit2')
    ]
    assert known[0] == dict(type='TimmTargetGenerator', cls='token', model_name='test_vit', pretrained=None)
    assert known[1] != known[0]


def test_registers_are_left_out():
    generator = TimmTargetGenerator('vit_small_patch16_dinov3', pretrained=None, model_args=dict(depth=2))
    images = torch.randn(1, 3, 256, 256)
    targets = generator(images)
    with torch.no_grad():
        tokens = generator.teacher.forward_features(images)
    assert generator.teacher.num_prefix_tokens == 5 and targets.shape == (1, 257, 384)
    assert torch.allclose(targets[:, 1:], tokens[:, 5:], atol=1e-4)
    assert torch.allclose(targets[:, 0], tokens[:, 0], atol=1e-4)


def test_patch_14_sees_a_smaller_crop():
    generator = TimmTargetGenerator('vit_small_patch14_dinov2', pretrained=None, model_args=dict(depth=2))
    assert generator._running_size((224, 224), (14, 14)) == ((196, 196), (14, 14))
    assert generator(torch.randn(1, 3, 224, 224)).shape == (1, 197, 384)


def test_norm_of_models_that_pool_first():
    generator = TimmTargetGenerator('beit_base_patch16_224', pretrained=None, model_args=dict(depth=1))
    targets = generator(torch.randn(1, 3, 224, 224))
    assert targets.mean(-1).abs().max() < 1e-4  # a LayerNorm with fresh weights came last


@pytest.mark.slow
def test_weight_file(tmp_path):
    torch.manual_seed(3)
    model = timm.create_model('test_vit', num_classes=0)
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    generator = TimmTargetGenerator('test_vit', pretrained=str(tmp_path / 'a.pth'))
    for key, value in generator.teacher.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


@pytest.mark.slow
def test_weight_file_that_does_not_fit(tmp_path):
    state = timm.create_model('test_vit', num_classes=0).state_dict()
    path = tmp_path / 'a.pth'

    def refused(changed, match):
        torch.save(changed, path)
        with pytest.raises(ValueError, match=match):
            TimmTargetGenerator('test_vit', pretrained=str(path))

    refused({k: v for k, v in state.items() if 'blocks.3' not in k}, 'has no blocks.3.norm1.weight')
    refused(state | {'norm.weight': torch.ones(7)}, r'norm.weight has shape \(7,\), expected \(64,\)')
    refused(state | {'blocks.9.norm1.weight': torch.ones(64)}, 'has no blocks.9')
    path.write_bytes(b'not a checkpoint')
    with pytest.raises(ValueError, match='no plain weight file'):
        TimmTargetGenerator('test_vit', pretrained=str(path))


def test_frozen_and_hidden():
    generator = TimmTargetGenerator('test_vit', pretrained=None, dtype='bfloat16')
    generator.train()
    assert not generator.teacher.training and not list(generator.parameters())
    targets = generator(torch.randn(2, 3, 160, 160))
    assert targets.dtype == torch.bfloat16 and not targets.requires_grad
    full = TimmTargetGenerator('test_vit', pretrained=None)(torch.ones(2, 3, 160, 160))
    low = generator(torch.ones(2, 3, 160, 160)).float()
    assert F.cosine_similarity(full, low, dim=-1).min() > 0.9999


def test_errors(monkeypatch):
    with pytest.raises(ValueError, match='did you mean vit_base_patch16_224'):
        TimmTargetGenerator('vit_base_patch16_2244', pretrained=None)
    with pytest.raises(ValueError, match="no weights 'vit_base_patch16_224.dyno'; it has:.*dino"):
        TimmTargetGenerator('vit_base_patch16_224.dyno')
    with pytest.raises(ValueError, match=r"cls='token' is not possible .*no CLS token; choose of \['pooled'"):
        TimmTargetGenerator('test_vit4', pretrained=None, cls='token')
    with pytest.raises(ValueError, match="cls='pooled' is not possible .*width 4096, its tokens have 512"):
        TimmTargetGenerator('vgg11', pretrained=None, cls='pooled')
    with pytest.raises(FileNotFoundError, match='no existing weight file'):
        TimmTargetGenerator('test_vit', pretrained='missing.pth')

    def unreachable(*args, **kwargs):
        raise OSError('network is unreachable')

    monkeypatch.setattr(timm, 'create_model', unreachable)
    with pytest.raises(
        FileNotFoundError, match='could not be had.*model.target_generator.pretrained=FILE.*unreachable'
    ):
        TimmTargetGenerator()


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize('name', ['xcit_nano_12_p16_224', 'cait_xxs24_224'])
def test_families_with_class_attention(name):
    """Entry 0 is the CLS token that the family's own head sees; its attention is that of the last layers."""
    generator = TimmTargetGenerator(name, pretrained=None, model_args=dict(depth=2))
    images = torch.randn(1, 3, 224, 224)
    targets = generator(images)
    tokens = generator.teacher.forward_features(generator._as_the_teacher_sees(images)[0])
    assert targets.shape == (1, 197, timm_width(name)) and torch.allclose(targets, tokens, atol=1e-5)
    head = generator.teacher.forward_head(tokens, pre_logits=True)
    assert torch.allclose(targets[:, 0], head, atol=1e-5)
    attention, grid = generator.cls_attention(images)
    assert grid == (14, 14) and attention.shape == (1, 4, 196)
    assert (attention.sum(-1) < 1).all() and (attention.sum(-1) > 0.9).all()  # the rest is CLS's own


class TestRefused:
    def test_arguments_that_timm_does_not_take(self):
        with pytest.raises(ValueError, match='timm cannot build test_vit: .*deepness'):
            TimmTargetGenerator('test_vit', None, model_args=dict(deepness=3))


class TestQuickGELU:
    """timm's CLIP towers have both activations; the weights' tag decides."""

    def activation(self, *args, **kwargs):
        generator = TimmTargetGenerator(*args, model_args=dict(depth=1), **kwargs)
        return type(generator.teacher.blocks[0].mlp.act).__name__

    @pytest.mark.parametrize(
        'name,expected',
        [
            ('vit_base_patch16_clip_224.openai', 'QuickGELU'),
            ('vit_base_patch16_clip_224.dfn2b', 'QuickGELU'),
            ('vit_base_patch32_clip_224.metaclip_400m', 'QuickGELU'),
            ('vit_base_patch16_clip_quickgelu_224.openai', 'QuickGELU'),
            ('vit_base_patch16_clip_224.laion2b', 'GELU'),
            ('vit_base_patch16_clip_224.openai_ft_in1k', 'GELU'),
            ('vit_base_patch16_clip_224', 'GELU'),
        ],
    )
    def test_tags(self, name, expected):
        assert self.activation(name, None) == expected

    def test_open_clip_says_the_same(self):
        """Of the weights that both list."""
        from mvp_mm.models.target_generators.timm import _trained_with_quick_gelu

        compared = 0
        for size, architecture in (
            ('ViT-B-16', 'vit_base_patch16_clip_224'),
            ('ViT-B-32', 'vit_base_patch32_clip_224'),
            ('ViT-L-14', 'vit_large_patch14_clip_224'),
            ('ViT-H-14', 'vit_huge_patch14_clip_224'),
        ):
            for tag in open_clip.list_pretrained_tags_by_model(size):
                name = f'{architecture}.{tag.replace("fullcc", "2pt5b")}'
                if timm.is_model_pretrained(name):
                    theirs = bool(open_clip.get_pretrained_cfg(size, tag).get('quick_gelu', False))
                    assert _trained_with_quick_gelu(name) == theirs, name
                    compared += 1
        assert compared > 10

    @pytest.mark.slow
    def test_weight_file(self, tmp_path):
        name = 'vit_base_patch16_clip_224'
        weights = timm.create_model(name, num_classes=0, depth=1).state_dict()
        path = str(tmp_path / 'weights.safetensors')
        save_file(weights, path)
        with pytest.raises(ValueError, match="does not tell.*'vit_base_patch16_clip_quickgelu_224'"):
            self.activation(name, path)
        assert self.activation(f'{name}.openai', path) == 'QuickGELU'
        assert self.activation('vit_base_patch16_clip_quickgelu_224', path) == 'QuickGELU'
        assert self.activation(name, path, quick_gelu=True) == 'QuickGELU'
        assert self.activation(name, path, quick_gelu=False) == 'GELU'
        for tag, expected in (('openai', 'QuickGELU'), ('laion2b', 'GELU')):
            config = dict(architecture=name, pretrained_cfg=dict(tag=tag))
            (tmp_path / 'config.json').write_text(json.dumps(config))
            assert self.activation(name, path) == expected


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path):
        torch.manual_seed(3)
        model = timm.create_model('test_vit', num_classes=0)
        statistics = dict(
            mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6], input_size=[3, 160, 160], fixed_input_size=True
        )
        config = dict(architecture='test_vit', num_classes=0, pretrained_cfg=statistics)
        (tmp_path / 'config.json').write_text(json.dumps(config))
        save_file(model.state_dict(), tmp_path / 'model.safetensors')
        return tmp_path, model

    @pytest.mark.slow
    def test_folder(self, folder):
        path, model = folder
        for name in (str(path), f'local-dir:{path}'):
            generator = TimmTargetGenerator(name)
            for key, value in generator.teacher.state_dict().items():
                assert torch.equal(value, model.state_dict()[key]), key
            mean, std = generator._statistics[2:]
            assert torch.equal(mean, torch.tensor([0.1, 0.2, 0.3])) and torch.equal(
                std, torch.tensor([0.4, 0.5, 0.6])
            )
            assert timm_width(name) == generator.out_channels == 64
        (path / 'model.safetensors').unlink()
        with pytest.raises(FileNotFoundError, match='no weights in .*model.safetensors'):
            TimmTargetGenerator(str(path))
        (path / 'config.json').unlink()
        with pytest.raises(FileNotFoundError, match='no config.json of timm'):
            TimmTargetGenerator(f'local-dir:{path}')

    def test_statistics_of_a_file(self, folder):
        path = str(folder[0] / 'model.safetensors')
        mean, std = TimmTargetGenerator('test_vit', path)._statistics[2:]
        assert torch.equal(mean, torch.tensor([0.1, 0.2, 0.3]))  # of config.json beside it
        mean, std = TimmTargetGenerator('test_vit', path, teacher_mean=[0.7, 0.8, 0.9])._statistics[2:]
        assert torch.equal(mean, torch.tensor([0.7, 0.8, 0.9])) and torch.equal(
            std, torch.tensor([0.4, 0.5, 0.6])
        )
        with pytest.raises(ValueError, match='teacher_std=.*three numbers above 0'):
            TimmTargetGenerator('test_vit', path, teacher_std=[0.0, 0.5, 0.5])

    def test_statistics_that_nobody_tells(self, tmp_path, warnings):
        path = tmp_path / 'a.pth'
        args = dict(embed_dim=64, depth=1, num_heads=2)
        torch.save(timm.create_model('vit_small_patch16_224', num_classes=0, **args).state_dict(), path)
        TimmTargetGenerator('vit_small_patch16_224.dino', str(path), model_args=args)
        assert warnings == []
        TimmTargetGenerator('vit_small_patch16_224', str(path), model_args=args)
        (warning,) = warnings
        assert (
            'does not tell the mean and std' in warning
            and 'vit_small_patch16_224.dino: mean (0.485' in warning
        )

    def test_hub(self, monkeypatch):
        def unreachable(*args, **kwargs):
            raise OSError('network is unreachable')

        monkeypatch.setattr(timm.models._factory, 'load_model_config_from_hf', unreachable)
        with pytest.raises(FileNotFoundError, match='hf-hub:a/b could not be had.*FOLDER.*unreachable'):
            TimmTargetGenerator('hf-hub:a/b')
