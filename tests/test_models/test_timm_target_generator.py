import pytest
import timm
import torch
from torch.nn import functional as F

from mvp_mm.models import TimmTargetGenerator

MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])


def test_dino_tokens_are_timms():
    """Table 5's teacher: ImageNet statistics, all tokens after the final norm, width 768."""
    generator = TimmTargetGenerator(pretrained=None)
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


def test_registers_are_left_out():
    generator = TimmTargetGenerator('vit_small_patch16_dinov3', pretrained=None)
    images = torch.randn(1, 3, 256, 256)
    targets = generator(images)
    with torch.no_grad():
        tokens = generator.teacher.forward_features(images)
    assert generator.teacher.num_prefix_tokens == 5 and targets.shape == (1, 257, 384)
    assert torch.allclose(targets[:, 1:], tokens[:, 5:], atol=1e-4)
    assert torch.allclose(targets[:, 0], tokens[:, 0], atol=1e-4)


def test_patch_14_sees_a_smaller_crop():
    generator = TimmTargetGenerator('vit_small_patch14_dinov2', pretrained=None)
    assert generator._running_size((224, 224), (14, 14)) == ((196, 196), (14, 14))
    assert generator(torch.randn(1, 3, 224, 224)).shape == (1, 197, 384)


def test_norm_of_models_that_pool_first():
    generator = TimmTargetGenerator('beit_base_patch16_224', pretrained=None)
    targets = generator(torch.randn(1, 3, 224, 224))
    assert targets.mean(-1).abs().max() < 1e-4  # a LayerNorm with fresh weights came last


def test_weight_file(tmp_path):
    torch.manual_seed(3)
    model = timm.create_model('test_vit', num_classes=0)
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    generator = TimmTargetGenerator('test_vit', pretrained=str(tmp_path / 'a.pth'))
    for key, value in generator.teacher.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


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
    with pytest.raises(ValueError, match='no patch tokens'):
        TimmTargetGenerator('resnet18', pretrained=None)
    with pytest.raises(ValueError, match='no CLS token'):
        TimmTargetGenerator('test_vit4', pretrained=None)
    with pytest.raises(FileNotFoundError, match='no existing weight file'):
        TimmTargetGenerator('test_vit', pretrained='missing.pth')

    def unreachable(*args, **kwargs):
        raise OSError('network is unreachable')

    monkeypatch.setattr(timm, 'create_model', unreachable)
    with pytest.raises(
        FileNotFoundError, match='could not be had.*model.target_generator.pretrained=FILE.*unreachable'
    ):
        TimmTargetGenerator()
