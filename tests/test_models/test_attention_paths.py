"""All ways to compute attention agree, in what they return and in every gradient; so do compiled blocks."""

import copy
import math

import pytest
import torch
from torch._subclasses import FakeTensorMode

from mvp_mm.models import MVPViT, TimmTargetGenerator
from mvp_mm.models.backbones import attention
from mvp_mm.models.backbones.attention import (
    ALIGNMENT,
    aligned,
    biased_attention,
    explicit_attention,
    fused_attention,
)
from mvp_mm.models.backbones.relative_position import relative_position_bias
from mvp_mm.weights.bias_tables import num_table_rows, relative_position_index

BATCH, HEADS, LENGTH, WIDTH = 3, 2, 13, 8


def written_out(query, key, value, bias):
    """The formula, term by term."""
    logits = torch.einsum('bhid,bhjd->bhij', query, key) / math.sqrt(WIDTH)
    weights = torch.exp(logits + (0 if bias is None else bias))
    weights = weights / weights.sum(-1, keepdim=True)
    return torch.einsum('bhij,bhjd->bhid', weights, value)


def inputs(dtype=torch.float64, with_bias=True):
    generator = torch.Generator().manual_seed(0)

    def made(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    tensors = [made(BATCH, HEADS, LENGTH, WIDTH) for _ in range(3)]
    return [*tensors, made(HEADS, LENGTH, LENGTH) if with_bias else None]


def output_and_gradients(attention, tensors):
    out = attention(*tensors)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    present = [tensor for tensor in tensors if tensor is not None]
    return [out, *torch.autograd.grad((out * weight).sum(), present)]


@pytest.mark.parametrize('path', [explicit_attention, fused_attention, biased_attention])
def test_every_path_is_the_formula(path):
    expected = output_and_gradients(written_out, inputs())
    for got, wanted in zip(output_and_gradients(path, inputs()), expected, strict=True):
        assert torch.allclose(got, wanted, atol=1e-10)


def packed(dtype=torch.float64, bias_learns=True):
    """Joint projection ``(B, L, 3C)`` and bias."""
    query, key, value, bias = (tensor.detach() for tensor in inputs(dtype))
    qkv = torch.stack([query, key, value], dim=2)  # (B, heads, 3, L, d)
    return qkv.permute(0, 3, 2, 1, 4).flatten(2).requires_grad_(), bias.requires_grad_(bias_learns)


def from_packed(qkv, bias):
    query, key, value = qkv.unflatten(-1, (3, HEADS, WIDTH)).permute(2, 0, 3, 1, 4)
    return written_out(query, key, value, bias).transpose(1, 2).flatten(2)


def own_attention(qkv, bias):
    return attention.self_attention(qkv, HEADS, bias)


@pytest.mark.parametrize('bias_learns', [True, False])
def test_learning_on_a_cpu_is_the_formula(bias_learns, monkeypatch):
    used, apply = [], attention._CPUAttention.apply
    monkeypatch.setattr(attention._CPUAttention, 'apply', lambda *args: used.append(1) or apply(*args))
    qkv, bias = packed(bias_learns=bias_learns)
    learnt = (qkv, bias)[: 1 + bias_learns]
    upstream = torch.linspace(-1, 1, qkv.numel() // 3, dtype=qkv.dtype).view(BATCH, LENGTH, -1)
    got, expected = own_attention(qkv, bias), from_packed(qkv, bias)
    assert used and torch.allclose(got, expected, atol=1e-12)
    pairs = zip(*(torch.autograd.grad(out, learnt, upstream) for out in (got, expected)), strict=True)
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in pairs)
    with torch.no_grad():  # nothing learns: the way that exports and traces have too
        assert torch.allclose(own_attention(qkv, bias), expected, atol=1e-12)
    assert len(used) == 1


def test_learning_on_a_cpu_in_bf16():
    """The gradient of a float32 bias is float32."""
    qkv, bias = packed(torch.float32)
    half = qkv.detach().bfloat16().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        got = own_attention(half, bias)
    upstream = torch.linspace(-1, 1, got.numel()).view_as(got)
    of_half = torch.autograd.grad(got, (half, bias), upstream.bfloat16())
    of_exact = torch.autograd.grad(from_packed(qkv, bias), (qkv, bias), upstream)
    assert [got.dtype, *(t.dtype for t in of_half)] == [torch.bfloat16, torch.bfloat16, torch.float32]
    for one, other in zip(of_half, of_exact, strict=True):
        assert (one.float() - other).norm() < 0.02 * other.norm()


def test_without_bias():
    expected = output_and_gradients(written_out, inputs(with_bias=False))
    got = output_and_gradients(biased_attention, inputs(with_bias=False))
    for one, other in zip(got, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize('path', [explicit_attention, fused_attention])
def test_bf16_is_near(path):
    """A float32 bias gets a float32 gradient whatever the queries are."""
    query, key, value, _ = inputs(torch.bfloat16)
    bias = inputs(torch.float32)[3]
    exact = output_and_gradients(
        written_out, [t.detach().double().requires_grad_() for t in (query, key, value, bias)]
    )
    got = output_and_gradients(path, [query, key, value, bias])
    assert [t.dtype for t in got] == [torch.bfloat16] * 4 + [torch.float32]
    for one, other in zip(got, exact, strict=True):
        assert (one.double() - other).norm() < 0.02 * other.norm()


def test_dropout_keeps_the_mean():
    torch.manual_seed(0)
    query, key, value, bias = inputs(torch.float32)
    with torch.no_grad():
        mean = sum(explicit_attention(query, key, value, bias, 0.3) for _ in range(400)) / 400
        assert (mean - explicit_attention(query, key, value, bias)).abs().mean() < 0.05
        assert torch.equal(explicit_attention(query, key, torch.zeros_like(value), bias, 0.3), 0 * value)


@pytest.mark.parametrize('length', [8, 13, 197])
def test_rows_begin_at_aligned_places(length):
    bias = torch.randn(2, length, length, requires_grad=True)
    rows = aligned(bias)
    assert torch.equal(rows, bias) and rows.stride(-2) % ALIGNMENT == 0 and rows.stride(-1) == 1
    (gradient,) = torch.autograd.grad((rows * 2).sum(), bias)
    assert torch.equal(gradient, torch.full_like(bias, 2))


@pytest.mark.parametrize('grid', [(3, 3), (2, 4)])
def test_bias_and_its_gradient_are_sums_over_the_index(grid):
    length, rows = grid[0] * grid[1] + 1, num_table_rows(grid)
    table = torch.randn(rows, HEADS, dtype=torch.float64, requires_grad=True)
    index = relative_position_index(grid)
    bias = relative_position_bias(table, index, grid, grid)
    incoming = torch.randn(HEADS, length, length, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(bias, table, incoming)
    expected = torch.zeros_like(table)
    for i in range(length):
        for j in range(length):
            assert torch.equal(bias[:, i, j], table[index[i, j]])
            expected[index[i, j]] += incoming[:, i, j]
    assert torch.allclose(gradient, expected, atol=1e-12)


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


def test_a_compiled_teacher_is_the_same():
    arguments = dict(model_name='test_vit', pretrained=None, patch_size=16, model_args=dict(depth=2))
    plain, compiled = (TimmTargetGenerator(**arguments, compile_blocks=flag) for flag in (False, True))
    images = torch.randn(1, 3, 160, 160)
    torch._dynamo.reset()
    assert torch.allclose(plain(images), compiled(images), atol=1e-5)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] >= 1


def test_a_bias_that_learns_alone_is_not_fused(monkeypatch):
    """Torch 2.11's fused kernel would then read through an empty tensor in its backward pass."""
    ways = []
    for name in ('fused_attention', 'explicit_attention'):
        monkeypatch.setattr(attention, name, lambda *args, name=name: ways.append(name))
    with FakeTensorMode():
        frozen = torch.empty(2, 3, 5, 8, device='cuda')
        learnt = torch.empty(2, 3, 5, 8, device='cuda', requires_grad=True)
        bias = torch.empty(3, 5, 5, device='cuda', requires_grad=True)
        attention.biased_attention(frozen, frozen, frozen, bias)
        attention.biased_attention(frozen, frozen, learnt, bias)
        attention.biased_attention(frozen, frozen, frozen, bias.detach())
        with torch.no_grad():
            attention.biased_attention(frozen, frozen, frozen, bias)
    assert ways == ['explicit_attention', *['fused_attention'] * 3]
