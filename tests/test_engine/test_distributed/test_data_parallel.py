import pytest
import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

from mvp_mm.engine.distributed.data_parallel import compress_gradients, ddp_config


def test_the_gpu_is_the_current_one_of_any_launcher(monkeypatch):
    """Which variables say so depends on the launcher: mpirun sets no LOCAL_RANK."""
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 3)
    assert ddp_config()['device_ids'] == [3]


def test_none_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert ddp_config()['device_ids'] is None


class Parallel:
    def register_comm_hook(self, state, hook):
        self.registered = state, hook


def test_nccl_gets_torchs_hook_for_bf16(monkeypatch):
    monkeypatch.setattr(torch.distributed, 'get_backend', lambda: 'nccl')
    model = Parallel()
    compress_gradients(model)
    assert model.registered == (None, bf16_compress_hook)


def test_gloo_is_refused(monkeypatch):
    monkeypatch.setattr(torch.distributed, 'get_backend', lambda: 'gloo')
    with pytest.raises(ValueError, match='needs GPUs and NCCL, but the backend of this run is gloo'):
        compress_gradients(Parallel())
