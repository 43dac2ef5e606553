"""The teacher's attention on CUDA is torch's, and everything that it does not serve is left to torch."""

import copy

import pytest
import torch
from torch import nn

from mvp_mm.models.target_generators import self_attention
from mvp_mm.models.target_generators.self_attention import SelfAttention, use_simple_attention


@pytest.fixture(autouse=True)
def used(monkeypatch):
    """As on CUDA; the tensors that went the way of the student's."""
    ours, calls = self_attention.self_attention, []
    monkeypatch.setattr(self_attention, '_reads_in_place', lambda tokens: True)
    monkeypatch.setattr(self_attention, 'self_attention', lambda *args: calls.append(args) or ours(*args))
    return calls


def attention(**options):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(24, 3, batch_first=True, **options).eval().requires_grad_(False)
    plain = copy.deepcopy(module)
    use_simple_attention(module)
    assert type(module) is SelfAttention
    return module, plain


def test_attention_is_torchs(used):
    module, plain = attention()
    tokens = torch.randn(2, 7, 24)
    found, weights = module(tokens, tokens, tokens, need_weights=False)
    assert weights is None
    assert len(used) == 1
    torch.testing.assert_close(found, plain(tokens, tokens, tokens, need_weights=False)[0])


@pytest.mark.parametrize(
    'case', ['weights', 'mask', 'causal', 'cross', 'training', 'unbatched', 'bias_kv', 'other widths']
)
def test_attention_left_to_torch(case, used):
    options = {'bias_kv': dict(add_bias_kv=True), 'other widths': dict(kdim=24, vdim=12)}.get(case, {})
    module, plain = attention(**options)
    tokens = torch.randn(2, 7, 24)
    tokens = tokens[0] if case == 'unbatched' else tokens
    given = [tokens, tokens, tokens]
    if case in ('cross', 'other widths'):
        given = [tokens, tokens.flip(1), tokens.flip(1)]
        given[2] = given[2][..., :12] if case == 'other widths' else given[2]
    call = dict(need_weights=case == 'weights')
    if case in ('mask', 'causal'):
        call['attn_mask'] = torch.triu(torch.full((7, 7), -torch.inf), diagonal=1)
        call['is_causal'] = case == 'causal'
    for each in (module, plain):
        each.train(case == 'training')
    found, expected = module(*given, **call), plain(*given, **call)
    assert not used
    torch.testing.assert_close(found[0], expected[0])
    assert (found[1] is None) == (expected[1] is None) == (case != 'weights')
