import math

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from mvp_mm.engine import MVPOptimWrapper


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
