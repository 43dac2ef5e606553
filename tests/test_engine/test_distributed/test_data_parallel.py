import torch

from mvp_mm.engine.distributed.data_parallel import ddp_config


def test_the_gpu_is_the_current_one_of_any_launcher(monkeypatch):
    """Which variables say so depends on the launcher: mpirun sets no LOCAL_RANK."""
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 3)
    assert ddp_config()['device_ids'] == [3]


def test_none_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert ddp_config()['device_ids'] is None
