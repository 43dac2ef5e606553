"""bf16 gradients between GPUs: asked for by the config, refused where the backend cannot."""

import pytest
import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

from mvp_mm.engine.distributed.data_parallel import compress_gradients


class Parallel:
    def register_comm_hook(self, state, hook):
        self.registered = state, hook


def test_nccl_gets_torchs_hook(monkeypatch):
    monkeypatch.setattr(torch.distributed, 'get_backend', lambda: 'nccl')
    model = Parallel()
    compress_gradients(model)
    assert model.registered == (None, bf16_compress_hook)


def test_gloo_is_refused(monkeypatch):
    monkeypatch.setattr(torch.distributed, 'get_backend', lambda: 'gloo')
    with pytest.raises(ValueError, match='needs GPUs and NCCL, but the backend of this run is gloo'):
        compress_gradients(Parallel())
