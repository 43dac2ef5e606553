from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub

from mvp_mm.engine import ThroughputHook


@pytest.mark.parametrize('batch', [dict(inputs=[0] * 8), dict(inputs=[[0] * 8] * 2, data_samples=[0] * 8)])
def test_images_per_second(batch, monkeypatch):
    """Of all processes; two views of a sample are one image."""
    monkeypatch.setattr('mvp_mm.engine.hooks.throughput_hook.get_world_size', lambda: 2)
    hub = MessageHub('throughput')
    hub.update_scalar('train/time', 0.5)
    ThroughputHook().after_train_iter(SimpleNamespace(message_hub=hub), 0, batch)
    assert hub.get_scalar('train/images_per_second').current() == 32
    assert 50 < hub.get_scalar('train/host_memory').current() < 1e6  # MiB
