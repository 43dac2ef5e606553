"""torch's attention by other kernels, against torch's own."""

import copy

import pytest
import torch
from torch import nn

from mvp_mm.models.backbones import multihead_attention
from mvp_mm.models.backbones.multihead_attention import MultiheadAttention, use_faster_attention

CAUSAL = torch.triu(torch.full((7, 7), -torch.inf), diagonal=1)


@pytest.fixture
def used(monkeypatch):
    """The tensors that went the way of the student's."""
    ours, calls = multihead_attention.self_attention, []
    monkeypatch.setattr(
        multihead_attention, 'self_attention', lambda *args: calls.append(args) or ours(*args)
    )
    return calls


@pytest.fixture
def as_on_cuda(monkeypatch):
    monkeypatch.setattr(multihead_attention, '_reads_in_place', lambda tokens, mask: mask is None)


def attention(learns=False, **options):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(24, 3, batch_first=True, **options).eval().requires_grad_(learns)
    plain = copy.deepcopy(module)
    use_faster_attention(module)
    assert type(module) is MultiheadAttention
    return module, plain


def test_attention_is_torchs(used, as_on_cuda):
    module, plain = attention()
    tokens = torch.randn(2, 7, 24)
    found, weights = module(tokens, tokens, tokens, need_weights=False)
    assert weights is None
    assert len(used) == 1
    torch.testing.assert_close(found, plain(tokens, tokens, tokens, need_weights=False)[0])


@pytest.mark.parametrize(
    'case', ['weights', 'mask', 'causal', 'cross', 'dropout', 'unbatched', 'bias_kv', 'other widths']
)
def test_attention_left_to_torch(case, used, as_on_cuda):
    options = {
        'bias_kv': dict(add_bias_kv=True),
        'other widths': dict(kdim=24, vdim=12),
        'dropout': dict(dropout=0.5),
    }.get(case, {})
    module, plain = attention(**options)
    tokens = torch.randn(2, 7, 24)
    tokens = tokens[0] if case == 'unbatched' else tokens
    given = [tokens, tokens, tokens]
    if case in ('cross', 'other widths'):
        given = [tokens, tokens.flip(1), tokens.flip(1)]
        given[2] = given[2][..., :12] if case == 'other widths' else given[2]
    call = dict(need_weights=case == 'weights')
    if case in ('mask', 'causal'):
        call |= dict(attn_mask=CAUSAL, is_causal=case == 'causal')
    found, expected = [], []
    for each, outs in ((module, found), (plain, expected)):
        torch.manual_seed(1)
        outs += each.train(case == 'dropout')(*given, **call)
    assert not used
    torch.testing.assert_close(found[0], expected[0])
    assert (found[1] is None) == (expected[1] is None) == (case != 'weights')


@pytest.mark.parametrize('mask', [None, CAUSAL], ids=['vision', 'text'])
def test_learning_in_bf16_on_a_cpu(mask, used):
    """Outputs and gradients are as near to float32's as torch's own."""
    module, plain = attention(learns=True)
    tokens = torch.randn(4, 7, 24)
    upstream = torch.randn_like(tokens)

    def learnt(each, half):
        given = tokens.clone().requires_grad_()
        with torch.autocast('cpu', torch.bfloat16, enabled=half):
            found = each(given, given, given, need_weights=False, attn_mask=mask)[0]
        gradients = torch.autograd.grad(found, [given, *each.parameters()], upstream.to(found.dtype))
        return [found.float(), *gradients]

    exact = learnt(plain, half=False)
    ours = learnt(module, half=True)
    assert len(used) == 1
    torchs = learnt(plain, half=True)
    for one, other, reference in zip(ours, torchs, exact, strict=True):
        assert (one - reference).norm() < 2 * (other - reference).norm() + 1e-3 * reference.norm()
    for one, other in zip(learnt(module, half=False), exact, strict=True):  # in float32 torch's own
        assert torch.equal(one, other)
    assert len(used) == 1
