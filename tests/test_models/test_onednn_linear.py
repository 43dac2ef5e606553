"""oneDNN's linear layers are torch's: outputs, gradients, dtypes, and wherever they do not apply."""

import copy

import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mvp_mm.models import MVPViT, onednn_linear
from mvp_mm.models.onednn_linear import OneDNNLinear, use_onednn
from mvp_mm.models.target_generators.self_attention import SelfAttention, use_simple_attention

pytestmark = pytest.mark.skipif(onednn_linear._PRODUCT is None, reason='this torch has no such product')


@pytest.fixture(autouse=True)
def used(monkeypatch):
    """Small layers too; what oneDNN has computed."""
    monkeypatch.setattr(onednn_linear, 'SMALLEST', 0)
    product, calls = onednn_linear._PRODUCT, []
    monkeypatch.setattr(
        onednn_linear, '_PRODUCT', lambda *args: calls.append(args[0].dtype) or product(*args)
    )
    return calls


def inputs(dtype=torch.float32, shape=(2, 5, 24), bias=True):
    generator = torch.Generator().manual_seed(0)

    def made(*size):
        return torch.randn(size, generator=generator).to(dtype).requires_grad_()

    return [made(*shape), made(40, shape[-1]), made(40) if bias else None]


def results(function, values, gradient=None):
    """Output and gradients."""
    values = [None if value is None else value.detach().clone().requires_grad_() for value in values]
    out = function(*values)
    out.backward(torch.ones_like(out) if gradient is None else gradient(out))
    return [out, *(value.grad for value in values if value is not None)]


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('shape', [(2, 5, 24), (7, 24), (2, 3, 5, 24)])
def test_float32(bias, shape, used):
    values = inputs(shape=shape, bias=bias)
    found = results(onednn_linear.onednn_linear, values, torch.cos)
    assert used == [torch.float32] * 2  # forward, and the gradient of the tokens
    torch.testing.assert_close(found, results(F.linear, values, torch.cos))


def test_gradients_by_differences():
    values = [value.double() for value in inputs()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onednn_linear, '_takes', lambda *args: True)
        patch.setattr(
            onednn_linear, '_PRODUCT', lambda tokens, weight, bias, *rest: F.linear(tokens, weight, bias)
        )
        leaves = [value.detach().requires_grad_() for value in values]
        assert torch.autograd.gradcheck(onednn_linear.onednn_linear, leaves)
        assert torch.autograd.gradgradcheck(onednn_linear.onednn_linear, leaves)


def test_bfloat16(used):
    values = inputs(torch.bfloat16)
    found = results(onednn_linear.onednn_linear, values)
    assert set(used) == {torch.bfloat16}
    exact = results(F.linear, [value.float() for value in values])
    for ours, torchs in zip(found, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        torch.testing.assert_close(ours.float(), torchs, rtol=0.02, atol=0.1)


def test_autocast_is_torchs(used):
    values = inputs()
    with torch.autocast('cpu', torch.bfloat16):
        found = results(onednn_linear.onednn_linear, values)
        expected = results(F.linear, values)
    assert set(used) == {torch.bfloat16}
    assert [value.dtype for value in found] == [value.dtype for value in expected]
    assert found[0].dtype == torch.bfloat16 and found[1].dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.1)


@pytest.mark.parametrize('frozen', [0, 1, 2])
def test_only_what_is_asked_for_has_a_gradient(frozen):
    values = inputs()
    values[frozen].requires_grad_(False)
    onednn_linear.onednn_linear(*values).sum().backward()
    assert [value.grad is None for value in values] == [number == frozen for number in range(3)]


def test_tokens_that_do_not_lie_in_a_row():
    tokens, weight, bias = (value.detach() for value in inputs(shape=(4, 6, 48)))
    for view in (tokens.transpose(0, 1), tokens[:, ::2], tokens[..., 24:], tokens[:1].expand(3, -1, -1)):
        part = weight[:, : view.shape[-1]]
        torch.testing.assert_close(onednn_linear.onednn_linear(view, part, bias), F.linear(view, part, bias))


@pytest.mark.parametrize('shape', [(24,), (0, 24)])
def test_shapes_left_to_torch(shape, used):
    values = [value.detach() for value in inputs(shape=shape)]
    assert torch.equal(onednn_linear.onednn_linear(*values), F.linear(*values))
    assert not used


def test_dtypes_left_to_torch(used):
    values = [value.detach().double() for value in inputs()]
    assert torch.equal(onednn_linear.onednn_linear(*values), F.linear(*values))
    with pytest.raises(RuntimeError, match='dtype'):
        onednn_linear.onednn_linear(values[0].float(), *values[1:])
    assert not used


def test_small_layers_are_left_to_torch(used, monkeypatch):
    monkeypatch.setattr(onednn_linear, 'SMALLEST', 2**18)
    values = [value.detach() for value in inputs()]
    assert torch.equal(onednn_linear.onednn_linear(*values), F.linear(*values))
    assert not used


def test_a_graph_has_torchs(used):
    layer = OneDNNLinear(24, 40).eval()
    traced = torch.jit.trace(layer, torch.randn(2, 24))
    exported = torch.export.export(layer, (torch.randn(2, 24),))
    used.clear()
    tokens = torch.randn(2, 24)
    torch.testing.assert_close(traced(tokens), exported.module()(tokens))
    assert not used
    assert 'linear' in str(exported.graph)


def test_modules_are_taken_over(used):
    ffn = FFN(24, 48, act_cfg=dict(type='GELU'), add_identity=False)
    plain = copy.deepcopy(ffn)
    use_onednn(ffn)
    assert {type(layer) for layer in ffn.modules() if isinstance(layer, nn.Linear)} == {OneDNNLinear}
    assert list(ffn.state_dict()) == list(plain.state_dict())
    tokens = torch.randn(2, 5, 24)
    torch.testing.assert_close(copy.deepcopy(ffn)(tokens), plain(tokens))
    assert len(used) == 2


def test_the_students_layers_are():
    arch = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
    linear = [layer for layer in MVPViT(arch, img_size=16).modules() if isinstance(layer, nn.Linear)]
    assert len(linear) == 8
    assert all(isinstance(layer, OneDNNLinear) for layer in linear)


def test_operations_are_counted(monkeypatch):
    monkeypatch.undo()  # the real product, as the counter knows it
    monkeypatch.setattr(onednn_linear, 'SMALLEST', 0)
    counts = []
    for function in (onednn_linear.onednn_linear, F.linear):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            function(*inputs())
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 2 * 10 * 24 * 40


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
    assert len(used) == 2
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
