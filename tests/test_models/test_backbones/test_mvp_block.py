"""Blocks: their attention probabilities beside a softmax by hand, kept biases, compilation."""

import copy
import math

import pytest
import torch

from mvp_mm.models import MVPViT

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
    tokens, grid, shared = vit.embed(images(batch=1))
    block = vit.layers[0]
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
    tokens, grid, shared = vit.embed(images(*size))
    for block in vit.layers:
        attention = block.attention_probabilities(tokens, grid, shared)
        assert torch.allclose(attention.sum(-1), torch.ones(()), atol=1e-5)
        normed = block.ln1(tokens)
        bias = block.attn.v_bias if block.attn.has_qv_bias else block.attn.qkv.bias[48:]
        values = (normed @ block.attn.qkv.weight[48:].T + bias).unflatten(-1, (3, 8)).transpose(1, 2)
        heads = (attention @ values).transpose(1, 2).flatten(2)
        expected = heads @ block.attn.proj.weight.T + block.attn.proj.bias
        assert torch.allclose(block.attn(normed, block.attn.logit_bias(grid, shared)), expected, atol=1e-5)
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


def tiny(**kwargs):
    torch.manual_seed(0)
    arch = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
    vit = MVPViT(arch, img_size=16, patch_size=8, **kwargs)
    with torch.no_grad():
        for name, value in vit.named_parameters():
            if 'bias_table' in name:
                value.normal_()
    return vit


def downstream(**kwargs):
    return tiny(out_type='featmap', out_indices=[0, 1], **kwargs)


def test_biases_are_computed_once_for_the_images_of_a_size():
    vit = downstream().eval()
    owners = [layer.attn for layer in vit.layers]
    with torch.no_grad():
        first = vit(torch.zeros(1, 3, 24, 24))
        kept = [owner._kept[1] for owner in owners]
        second = vit(torch.zeros(2, 3, 24, 24))
        assert all(owner._kept[1] is bias for owner, bias in zip(owners, kept, strict=True))
        assert torch.allclose(first[1][0], second[1][1], atol=1e-6)
        # another size, and other weights, are noticed
        fresh = copy.deepcopy(vit)
        assert fresh.layers[0].attn._kept is None
        assert torch.equal(vit(torch.zeros(1, 3, 16, 24))[1], fresh(torch.zeros(1, 3, 16, 24))[1])
        vit.layers[0].attn.relative_position_bias_table.mul_(3)
        fresh.layers[0].attn.relative_position_bias_table.mul_(3)
        assert torch.equal(vit(torch.zeros(1, 3, 16, 24))[1], fresh(torch.zeros(1, 3, 16, 24))[1])
    vit(torch.zeros(1, 3, 16, 24))[1].sum().backward()
    assert vit.layers[0].attn.relative_position_bias_table.grad.abs().sum() > 0
    assert owners[0]._kept is None  # training keeps nothing
    with torch.inference_mode():
        assert torch.equal(vit(torch.zeros(1, 3, 16, 24))[1], fresh(torch.zeros(1, 3, 16, 24))[1])


@pytest.mark.slow
def test_compiled_blocks_are_the_same():
    """One graph serves both layers; outputs and gradients of a masked step."""
    settings = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True, out_type='raw', final_norm=True)
    plain, compiled = tiny(**settings), tiny(compile_blocks=True, **settings)
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    images, mask = torch.randn(2, 3, 16, 16), torch.rand(2, 2, 2) < 0.5
    results = []
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for vit in (plain, compiled):
        out = vit(images, mask)[-1]
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        gradients = {name: value.grad for name, value in vit.named_parameters()}
        results.append(dict(gradients, out=out))
    for name, value in results[0].items():
        assert torch.allclose(results[1][name], value, atol=1e-5), name
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 1
