import torch
from torch import nn
from torch.nn import functional as F

from mvp_mm.models.backbones.gelu import GELU, CompiledGELU, use_compiled_gelu


def test_it_is_gelu():
    values = torch.linspace(-9, 9, 20001, requires_grad=True)
    exact = values.detach().double().requires_grad_()
    for got, expected in zip(
        (out := CompiledGELU.apply(values), torch.autograd.grad(out.sum(), values)[0]),
        (out := F.gelu(exact), torch.autograd.grad(out.sum(), exact)[0]),
        strict=True,
    ):
        assert (got.double() - expected).abs().max() < 1e-6


def test_in_bf16_it_is_torchs_to_the_last_bit_but_one():
    values = torch.randn(10000).bfloat16()
    torch.testing.assert_close(CompiledGELU.apply(values), F.gelu(values), rtol=2**-7, atol=1e-6)


def test_only_torchs_own_is_replaced():
    class Other(nn.GELU):
        pass

    network = nn.Sequential(nn.GELU(), Other(), nn.GELU(approximate='tanh'))
    use_compiled_gelu(network)
    assert [type(module) for module in network] == [GELU, Other, GELU]
    values = torch.randn(5)
    assert torch.equal(network[2](values), F.gelu(values, approximate='tanh'))
