import torch

from mvp_mm.engine import clamp_workers as module
from mvp_mm.engine.clamp_workers import clamp_workers


def test_a_loader_fits_the_machine(monkeypatch):
    monkeypatch.setattr(module, 'core_share', lambda: 4)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    loader = dict(num_workers=8, persistent_workers=True, pin_memory=True)
    clamp_workers(loader)
    assert loader == dict(num_workers=4, persistent_workers=True, pin_memory=False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    loader = dict(num_workers=0, persistent_workers=True, pin_memory=True)
    loader['collate_fn'] = dict(type='default_collate', _scope_='mmpretrain')
    clamp_workers(loader)
    assert loader == dict(num_workers=0, pin_memory=True, collate_fn=dict(type='default_collate'))
