"""Attention probabilities, against a softmax written out by hand and against what the blocks return."""

import math

import pytest
import torch
from torch import nn

from mvp_mm.models import CLIPTargetGenerator, MVPViT, PixelTargetGenerator, TimmTargetGenerator
from mvp_mm.models.target_generators.last_attention import attention_in_a_run

ARCH = dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=48)
MODES = {
    'pre-training': dict(
        use_rel_pos_bias=False, use_shared_rel_pos_bias=True, final_norm=True, out_type='raw'
    ),
    'downstream': dict(out_type='featmap', out_indices=[0, 2]),
    'MAE-like': dict(
        out_type='cls_token',
        bias=True,
        use_rel_pos_bias=False,
        use_abs_pos_emb=True,
        layer_scale_init_value=0,
    ),
}


def student(mode, img_size=16):
    vit = MVPViT(ARCH, img_size=img_size, patch_size=8, **MODES[mode]).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in vit.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    return vit


def images(height=16, width=16, batch=2):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def bias_by_hand(table, head, query, key, rows, cols):
    """BEiT's rule, from the offset of two tokens (CLS is 0) of a ``rows x cols`` grid."""
    last = (2 * rows - 1) * (2 * cols - 1) + 2
    if query == key == 0:
        return table[last, head]
    if query == 0 or key == 0:
        return table[last - 2 if query == 0 else last - 1, head]
    down = (query - 1) // cols - (key - 1) // cols
    right = (query - 1) % cols - (key - 1) % cols
    return table[(down + rows - 1) * (2 * cols - 1) + right + cols - 1, head]


@torch.no_grad()
@pytest.mark.parametrize('mode', MODES)
def test_probabilities_are_the_softmax_by_hand(mode):
    vit = student(mode)
    tokens, grid = vit.embed(images(batch=1))
    block = vit.layers[0]
    shared = None if vit.rel_pos_bias is None else vit.rel_pos_bias(grid)
    got = block.attention_probabilities(tokens, grid, shared)[0]
    normed = block.ln1(tokens)[0]
    width, heads, length = 24, 3, 5
    weight, table = block.attn.qkv.weight, None
    if mode == 'MAE-like':
        q_bias, k_bias = block.attn.qkv.bias[:width], block.attn.qkv.bias[width : 2 * width]
    else:
        q_bias, k_bias = block.attn.q_bias, torch.zeros(width)
        owner = vit.rel_pos_bias if mode == 'pre-training' else block.attn
        table = owner.relative_position_bias_table
    queries = normed @ weight[:width].T + q_bias
    keys = normed @ weight[width : 2 * width].T + k_bias
    for head in range(heads):
        part = slice(head * width // heads, (head + 1) * width // heads)
        for i in range(length):
            logits = [float(queries[i, part] @ keys[j, part]) / math.sqrt(8) for j in range(length)]
            if table is not None:
                logits = [v + float(bias_by_hand(table, head, i, j, 2, 2)) for j, v in enumerate(logits)]
            powers = [math.exp(value) for value in logits]
            for j in range(length):
                assert float(got[head, i, j]) == pytest.approx(powers[j] / sum(powers), abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize('size', [(16, 16), (24, 40)])
@pytest.mark.parametrize('mode', MODES)
def test_weighing_the_values_gives_the_blocks_output(mode, size):
    vit = student(mode)
    tokens, grid = vit.embed(images(*size))
    shared = None if vit.rel_pos_bias is None else vit.rel_pos_bias(grid)
    for block in vit.layers:
        attention = block.attention_probabilities(tokens, grid, shared)
        assert torch.allclose(attention.sum(-1), torch.ones(()), atol=1e-5)
        normed = block.ln1(tokens)
        bias = block.attn.v_bias if block.attn.has_qv_bias else block.attn.qkv.bias[48:]
        values = (normed @ block.attn.qkv.weight[48:].T + bias).unflatten(-1, (3, 8)).transpose(1, 2)
        heads = (attention @ values).transpose(1, 2).flatten(2)
        expected = heads @ block.attn.proj.weight.T + block.attn.proj.bias
        assert torch.allclose(block.attn(normed, grid, shared), expected, atol=1e-5)
        tokens = block(tokens, grid, shared)


@torch.no_grad()
@pytest.mark.parametrize('mode', MODES)
def test_blockwise_is_the_forward_pass(mode):
    vit = student(mode)
    steps = list(vit.blockwise(images(24, 40)))
    assert [attention.shape for attention, _ in steps] == [(2, 3, 16, 16)] * 3
    last = steps[-1][1]
    (*_, expected) = vit(images(24, 40))
    got = {'raw': last, 'cls_token': last[:, 0], 'featmap': last[:, 1:].transpose(1, 2).unflatten(2, (3, 5))}
    assert torch.allclose(got[vit.out_type], expected, atol=1e-6)


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
