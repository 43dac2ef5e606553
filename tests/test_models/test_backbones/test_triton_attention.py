"""The Triton kernels are the formula, here interpreted; tools/analysis_tools/gpu_check.py runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

from mvp_mm.models.backbones import attention, triton_attention

# images, tokens, heads, width of a head, whether queries, keys and values lie apart
CASES = [(2, 37, 2, 16, False), (1, 130, 1, 32, True), (1, 197, 1, 64, False)]


@pytest.mark.slow
def test_interpreted_kernels_are_the_formula():
    if triton_attention.triton is None:
        pytest.skip('there is no Triton for this platform')
    script = Path(__file__).with_name('interpreted_attention.py')
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(CASES)],
        env=dict(os.environ, TRITON_INTERPRET='1', CUDA_VISIBLE_DEVICES=''),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for found in json.loads(done.stdout.splitlines()[-1]):
        assert found.keys() == {'out', 'bias', 'query', 'key', 'value'}
        assert max(found.values()) < 2e-3, found


def test_the_cpu_goes_its_own_way():
    qkv = torch.randn(2, 5, 3, 2, 16, dtype=torch.bfloat16)
    assert not triton_attention.is_available(qkv, torch.zeros(2, 5, 5), 0.0)


@pytest.mark.parametrize(
    'shape,dtype,dropout,taken',
    [
        ((256, 197, 3, 12, 64), torch.bfloat16, 0.0, True),
        ((2, 1025, 3, 16, 64), torch.float16, 0.0, True),
        ((2, 197, 3, 12, 64), torch.float32, 0.0, False),
        ((2, 197, 3, 12, 64), torch.bfloat16, 0.1, False),
        ((2, 197, 3, 16, 80), torch.bfloat16, 0.0, False),  # ViT-H
        ((5462, 65, 3, 12, 64), torch.bfloat16, 0.0, False),  # more than a grid holds
    ],
)
def test_what_the_kernels_take_on_cuda(monkeypatch, shape, dtype, dropout, taken):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
    monkeypatch.setattr(triton_attention, 'triton', triton_attention)  # any platform's
    with FakeTensorMode():
        qkv = torch.empty(shape, dtype=dtype, device='cuda')
        bias = torch.empty(shape[3], shape[1], shape[1], device='cuda')
    assert triton_attention.is_available(qkv, bias, dropout) == taken
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (7, 5))
    assert not triton_attention.is_available(qkv, bias, dropout)


@pytest.mark.parametrize('with_bias', [True, False])
def test_packed_attention_is_that_of_its_parts(with_bias):
    qkv = torch.randn(3, 7, 3 * 12, dtype=torch.float64)
    bias = torch.randn(2, 7, 7, dtype=torch.float64) if with_bias else None
    parts = qkv.view(3, 7, 3, 2, 6).permute(2, 0, 3, 1, 4)
    expected = attention.attention_probabilities(parts[0], parts[1], bias) @ parts[2]
    got = attention.self_attention(qkv, 2, bias)
    assert torch.allclose(got, expected.transpose(1, 2).flatten(2), atol=1e-12)
