"""Run by test_triton_attention.py in its own process: the interpreted kernels beside float64."""

import json
import math
import sys

import torch
from torch import Tensor

from mvp_mm.models.backbones import triton_attention


def written_out(qkv: Tensor, bias: Tensor) -> Tensor:
    query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
    logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + bias
    return (logits.softmax(-1) @ value).transpose(1, 2)


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def differences(batch: int, length: int, heads: int, width: int, strided: bool) -> dict[str, float]:
    """Relative differences of result and gradients, in float16, which the interpreter has."""
    torch.manual_seed(length)
    shape = (batch, length, 3, heads, width)
    memory = torch.randn(batch, length + 2, 4, heads, width if not strided else 2 * width).half()
    qkv = memory[:, 1:-1, :3, :, :width] if strided else torch.randn(shape).half()
    qkv.requires_grad_()
    bias = torch.randn(heads, length, length, requires_grad=True)
    upstream = torch.randn(batch, length, heads, width).half()
    out = triton_attention.triton_attention(qkv, bias)
    gradients = torch.autograd.grad(out, (qkv, bias), upstream)
    exact = [tensor.detach().double().requires_grad_() for tensor in (qkv, bias)]
    expected = written_out(*exact)
    wanted = torch.autograd.grad(expected, exact, upstream.double())
    found = dict(out=difference(out, expected), bias=difference(gradients[1], wanted[1]))
    for number, name in enumerate(('query', 'key', 'value')):
        found[name] = difference(gradients[0][:, :, number], wanted[0][:, :, number])
    (alone,) = torch.autograd.grad(triton_attention.triton_attention(qkv, bias), qkv, upstream)
    assert torch.equal(alone, gradients[0])
    frozen = qkv.detach()
    (alone,) = torch.autograd.grad(triton_attention.triton_attention(frozen, bias), bias, upstream)
    assert torch.equal(alone, gradients[1]) and alone.dtype == bias.dtype
    return found


def check_operator() -> None:
    """Schema, fake tensors and autograd are registered as torch wants them."""
    qkv = torch.randn(1, 5, 3, 2, 16).half().requires_grad_()
    bias = torch.randn(2, 5, 5, requires_grad=True)
    tests = ('test_schema', 'test_autograd_registration', 'test_faketensor')
    torch.library.opcheck(triton_attention._attention, (qkv, bias), test_utils=tests)


if __name__ == '__main__':
    check_operator()
    print(json.dumps([differences(*case) for case in json.loads(sys.argv[1])]))
