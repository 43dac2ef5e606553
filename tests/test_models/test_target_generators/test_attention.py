"""Attention of teachers, against a softmax written out by hand and the networks' own output."""

import pytest
import torch
from torch import nn

from mvp_mm.models import CLIPTargetGenerator, PixelTargetGenerator, TimmTargetGenerator
from mvp_mm.models.target_generators.attention import attention_in_a_run


def images(height=16, width=16, batch=2):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def caught_output(module, run):
    caught = []
    hook = module.register_forward_hook(lambda _, args, output: caught.append((args[0], output)))
    run()
    hook.remove()
    return caught[0]


@torch.no_grad()
def test_clip_teachers_attention(tiny_clip):
    generator = CLIPTargetGenerator(tiny_clip('looked-at'), pretrained=None, patch_size=8)
    module = generator.teacher.transformer.resblocks[-1].attn
    inputs, expected = caught_output(module, lambda: generator(images(32, 32)))
    expected = expected[0] if isinstance(expected, tuple) else expected  # torch's attention gives two
    attention, grid = generator.cls_attention(images(32, 32))
    assert grid == (4, 4) and attention.shape == (2, 2, 16)
    query, key, value = (
        part.unflatten(-1, (2, 16)).transpose(1, 2)
        for part in (inputs @ module.in_proj_weight.T + module.in_proj_bias).chunk(3, dim=-1)
    )
    by_hand = (query @ key.transpose(-2, -1) / 4).softmax(-1)
    assert torch.allclose(attention, by_hand[:, :, 0, 1:], atol=1e-5)
    heads = (by_hand @ value).transpose(1, 2).flatten(2)
    assert torch.allclose(heads @ module.out_proj.weight.T + module.out_proj.bias, expected, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    'name,size', [('test_vit', 160), ('vit_small_patch16_dinov3', 64), ('beit_base_patch16_224', 224)]
)
def test_timm_teachers_attention(name, size):
    """Plain, with registers and rotary positions, and with a relative bias."""
    args = dict(depth=2) if name != 'test_vit' else {}
    generator = TimmTargetGenerator(name, pretrained=None, patch_size=16, model_args=args)
    module = generator.attention_module(generator.teacher)
    before = generator(images(size, size))
    attention, grid = generator.cls_attention(images(size, size))
    assert grid == (size // 16, size // 16) and attention.shape[-1] == grid[0] * grid[1]
    assert torch.equal(generator(images(size, size)), before) and module.fused_attn  # left as it was
    assert not module._forward_pre_hooks and not module.attn_drop._forward_hooks
    # Neither rotary positions nor a relative bias touches the values: weighing them gives timm's own output.
    whole = attention_in_a_run(module, lambda: generator(images(size, size)))
    assert torch.equal(whole[:, :, 0, generator.teacher.num_prefix_tokens :], attention)
    inputs, expected = caught_output(module, lambda: generator(images(size, size)))
    joint = module.qkv.bias
    bias = getattr(module, 'v_bias', None) if joint is None else joint.chunk(3)[2]
    value = nn.functional.linear(inputs, module.qkv.weight.chunk(3)[2], bias)
    heads = (whole @ value.unflatten(-1, (module.num_heads, -1)).transpose(1, 2)).transpose(1, 2).flatten(2)
    assert torch.allclose(module.proj(heads), expected, atol=1e-5)


def test_teachers_without_attention():
    with pytest.raises(ValueError, match='attention of a PixelTargetGenerator cannot be had'):
        PixelTargetGenerator(patch_size=8).cls_attention(images())
