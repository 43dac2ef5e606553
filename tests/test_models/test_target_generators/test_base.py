"""What every teacher does, shown on a small CLIP."""

import pytest
import torch
from mmengine.model import BaseModule
from torch import nn
from torch.nn import functional as F

from mvp_mm.models import CLIPTargetGenerator
from mvp_mm.models.target_generators.clip_tokens import resized_positions


def crops():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class TestFrozen:
    def test_hidden_from_training(self, tiny_clip):
        parent = nn.Sequential(CLIPTargetGenerator(tiny_clip('hidden'), None, patch_size=8))
        generator = parent[0]
        assert dict(parent.state_dict()) == {} and list(parent.parameters()) == []
        parent.train()
        assert not any(module.training for module in generator.teacher.modules())
        student = crops()
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
        student = crops()
        full = generator(student)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            low = generator(student)
        assert full.dtype == torch.float32 and low.dtype == torch.bfloat16
        assert F.cosine_similarity(full, low.float(), dim=-1).min() > 0.9999
        assert torch.equal(generator(student), full)  # float32 weights were not touched

    @pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
    def test_dtype_asked_for(self, tiny_clip, dtype):
        generator = CLIPTargetGenerator(tiny_clip(dtype), None, patch_size=8, dtype=dtype)
        student = crops()
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
        resized = resized_positions(generator.teacher, (6, 3))[1:, 0].view(6, 3)
        assert torch.allclose(resized[:, :1].expand(6, 3), resized, atol=1e-5)
        assert (resized[1:, 0] > resized[:-1, 0]).all()
