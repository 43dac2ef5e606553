import math

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from mvp_mm.engine import MVPOptimWrapper
from mvp_mm.engine.optim import mvp_optim_wrapper


def wrapped(model, lr=0.1, **kwargs):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return MVPOptimWrapper(optimizer=optimizer, **kwargs)


def test_bf16_on_a_cpu_without_scaler():
    model = nn.Linear(4, 4)
    wrapper = wrapped(model, precision='bfloat16')
    with wrapper.optim_context(model):
        out = model(torch.randn(2, 4))
    assert out.dtype == torch.bfloat16 and not hasattr(wrapper, 'loss_scaler')
    wrapper.update_params(out.float().square().mean())
    assert model.weight.dtype == torch.float32


def test_auto_is_float32_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    model = nn.Linear(4, 4)
    wrapper = wrapped(model)
    assert wrapper.precision == 'float32'
    with wrapper.optim_context(model):
        assert model(torch.randn(2, 4)).dtype == torch.float32


@pytest.mark.parametrize('native,precision', [(True, 'bfloat16'), (False, 'float32')])
def test_auto_on_cuda(monkeypatch, native, precision):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: native)
    monkeypatch.setattr('mvp_mm.engine.optim.mvp_optim_wrapper.get_device', lambda: 'cuda')
    assert wrapped(nn.Linear(2, 2)).precision == precision


def test_fp16_is_referred_to_mmengine():
    with pytest.raises(ValueError, match='AmpOptimWrapper'):
        wrapped(nn.Linear(2, 2), precision='float16')
    assert OPTIM_WRAPPERS.get('MVPOptimWrapper') is MVPOptimWrapper


@pytest.mark.parametrize('clip', [None, dict(max_norm=0.5), dict(type='value', clip_value=0.01)])
def test_finite_step_equals_mmengines(clip):
    weights = []
    for cls in (MVPOptimWrapper, OptimWrapper):
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        wrapper = cls(
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            clip_grad=None if clip is None else dict(clip),
            accumulative_counts=2,
        )
        for _ in range(4):
            wrapper.update_params(model(torch.randn(8, 4)).square().mean())
        weights.append(model.weight.detach().clone())
    assert torch.equal(*weights)


@pytest.mark.parametrize('bad', [math.nan, math.inf])
@pytest.mark.parametrize('where', ['loss', 'gradient'])
@pytest.mark.parametrize('clip', [None, dict(max_norm=3.0)])
def test_bad_step_is_skipped_and_counted(bad, where, clip):
    model = nn.Linear(4, 1)
    wrapper = wrapped(model, clip_grad=clip)
    before = model.weight.detach().clone()
    loss = model(torch.randn(8, 4)).mean()
    # a bad loss whose gradient alone would look healthy, or a bad gradient of a healthy loss
    hook = model.weight.register_hook(lambda grad: grad * (bad if where == 'gradient' else 1))
    wrapper.update_params(loss + bad if where == 'loss' else loss)
    hook.remove()
    assert torch.equal(model.weight, before)
    assert (wrapper.skipped_in_a_row, wrapper.skipped_steps) == (1, 1)
    wrapper.update_params(model(torch.randn(8, 4)).mean())
    assert not torch.equal(model.weight, before)  # nothing of the bad step is left
    assert model.weight.isfinite().all()
    assert (wrapper.skipped_in_a_row, wrapper.skipped_steps) == (0, 1)


def test_one_bad_iteration_spoils_its_accumulation_only():
    model = nn.Linear(4, 1)
    wrapper = wrapped(model, accumulative_counts=2)
    before = model.weight.detach().clone()
    for bad in (0.0, math.nan):
        wrapper.update_params(model(torch.randn(8, 4)).mean() + bad)
    assert torch.equal(model.weight, before) and wrapper.skipped_steps == 1
    for _ in range(2):
        wrapper.update_params(model(torch.randn(8, 4)).mean())
    assert not torch.equal(model.weight, before)


def test_too_many_in_a_row_stop_the_run():
    model = nn.Linear(4, 1)
    wrapper = wrapped(model, max_skipped_steps=3)

    def bad_step():
        wrapper.update_params(model(torch.randn(8, 4)).mean() * math.nan)

    for _ in range(2):
        bad_step()
    with pytest.raises(FloatingPointError, match='Iteration 3: .*3 in a row.*learning rate 0.1'):
        bad_step()


def test_skipped_steps_outlive_a_restart():
    model = nn.Linear(4, 1)
    wrapper, other = wrapped(model, max_skipped_steps=3), wrapped(model, max_skipped_steps=3)
    for _ in range(2):
        wrapper.update_params(model(torch.randn(8, 4)).mean() * math.nan)
    other.load_state_dict(wrapper.state_dict())
    assert (other.skipped_in_a_row, other.skipped_steps) == (2, 2)
    with pytest.raises(FloatingPointError, match='3 in a row, 3 in all'):
        other.update_params(model(torch.randn(8, 4)).mean() * math.nan)
    plain = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.2))
    plain.load_state_dict(wrapper.state_dict())  # MMEngine's takes it too
    assert plain.get_lr() == wrapper.get_lr()
    other.load_state_dict(plain.state_dict())
    assert other.skipped_steps == 0


class TestDecidedOnTheDevice:
    """What CUDA does; the CPU's fused AdamW takes the same tensors."""

    @pytest.fixture(autouse=True)
    def as_on_cuda(self, monkeypatch):
        monkeypatch.setattr(mvp_optim_wrapper, '_waits_for_device', lambda parameter: self.on_device)

    def trained(self, on_device, bad=(), steps=6, **kwargs):
        self.on_device = on_device
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.05, fused=True)
        wrapper = MVPOptimWrapper(optimizer=optimizer, **kwargs)
        for step in range(steps):
            loss = 50 * model(torch.randn(8, 4)).square().mean()
            wrapper.update_params(loss * math.nan if step in bad else loss)
            assert not hasattr(optimizer, 'found_inf')
        return model, wrapper

    @pytest.mark.parametrize('clip', [None, dict(max_norm=3.0), dict(max_norm=1e6)])
    @pytest.mark.parametrize('bad', [(), (0,), (2, 3)])
    def test_it_is_the_same_as_on_the_host(self, clip, bad):
        expected, by_host = self.trained(False, bad, clip_grad=clip)
        model, wrapper = self.trained(True, bad, clip_grad=clip)
        assert wrapper._unread is not None and by_host._unread is None
        torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=1e-5, atol=1e-7)
        state, other = wrapper.state_dict(), by_host.state_dict()
        assert state['skipped'] == other['skipped'] == [0, len(bad)]
        for mine, theirs in zip(state['state'].values(), other['state'].values(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)

    def test_a_norm_is_logged_a_step_later(self):
        _, wrapper = self.trained(True, clip_grad=dict(max_norm=3.0))
        before = wrapper.message_hub.get_scalar('train/grad_norm').current()
        norm = float(wrapper._unread[0])
        wrapper.state_dict()
        assert wrapper.message_hub.get_scalar('train/grad_norm').current() == norm != before

    @pytest.mark.parametrize('most', [1, 3])
    def test_the_last_of_too_many_is_told_at_once(self, most):
        with pytest.raises(FloatingPointError, match=f'Iteration {1 + most}: .*{most} in a row'):
            self.trained(True, range(1, 6), clip_grad=dict(max_norm=3.0), max_skipped_steps=most)

    def test_others_are_clipped_by_the_host(self):
        self.on_device = True
        parameters = nn.Linear(2, 2).parameters()
        plain = MVPOptimWrapper(optimizer=torch.optim.SGD(parameters, lr=0.1))
        by_value = MVPOptimWrapper(
            optimizer=torch.optim.AdamW(nn.Linear(2, 2).parameters(), fused=True),
            clip_grad=dict(type='value', clip_value=0.1),
        )
        assert not plain._decides_on_device() and not by_value._decides_on_device()
