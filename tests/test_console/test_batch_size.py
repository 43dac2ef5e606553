import pytest
import torch

from mvp_mm.console.batch_size import batch_size, pretraining_step
from mvp_mm.zoo import model_config


def test_batches(monkeypatch):
    """Halved until it fits; no more than there are images, nor than a CPU takes in seconds."""
    base, tiny = model_config('mvp_vitb16_in1k'), model_config('mvp_vittiny_debug')
    assert batch_size(base, 10**6) == 8 and batch_size(base, 5) == 4
    assert batch_size(tiny, 10**6) == 8 and batch_size(tiny, 3) == 2
    assert batch_size(model_config('upernet_vitb16_custom_512x512'), 10**6) == 2  # has batch normalisation
    tried = []

    def step(cfg, batch):
        tried.append(batch)
        if batch > 60:
            raise torch.OutOfMemoryError

    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    assert batch_size(base, 10**6, step) == 32 and tried == [256, 128, 64, 32]
    with pytest.raises(ValueError, match='cannot hold a batch of 1: take a smaller student'):
        batch_size(base, 10**6, lambda cfg, batch: step(cfg, 1000))


def test_a_step_is_tried_with_the_whole_model(monkeypatch):
    trained = []

    def step(optimizer):
        (group,) = optimizer.param_groups
        trained.extend(parameter for parameter in group['params'] if parameter.grad is not None)

    monkeypatch.setattr('torch.optim.AdamW.step', step)
    pretraining_step(model_config('mvp_vittiny_debug'), 2)
    assert len(trained) == 69 and all(parameter.grad.isfinite().all() for parameter in trained)
