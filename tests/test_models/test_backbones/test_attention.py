"""All paths of attention agree, in their results and in every gradient."""

import math

import pytest
import torch
from torch._subclasses import FakeTensorMode

from mvp_mm.models.backbones import attention
from mvp_mm.models.backbones.attention import (
    ALIGNMENT,
    aligned,
    biased_attention,
    explicit_attention,
    fused_attention,
)

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


def test_learning_in_bf16_without_bias(monkeypatch):
    """Not by torch's fused kernel, whose backward pass is slow on a CPU; long sequences fit memory by it."""
    used, apply = [], attention._CPUAttention.apply
    monkeypatch.setattr(attention._CPUAttention, 'apply', lambda *args: used.append(1) or apply(*args))
    exact = packed(torch.float32)[0]
    half = exact.detach().bfloat16().requires_grad_()
    got, expected = own_attention(half, None), from_packed(exact, torch.zeros(()))
    upstream = torch.linspace(-1, 1, got.numel()).view_as(got)
    (one,) = torch.autograd.grad(got, half, upstream.bfloat16())
    (other,) = torch.autograd.grad(expected, exact, upstream)
    assert len(used) == 1 and (one.float() - other).norm() < 0.02 * other.norm()
    own_attention(exact, None)
    with torch.no_grad():
        own_attention(half, None)
    monkeypatch.setattr(attention, 'LONGEST_EXPLICIT', LENGTH - 1)
    own_attention(half, None)
    assert len(used) == 1


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
