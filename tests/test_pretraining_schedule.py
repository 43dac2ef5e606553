"""The learning rate of the pre-training configs against BEiT's schedule, computed independently."""

from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).parents[1]
ITERATIONS = 1281167 // 2048  # an epoch of ImageNet-1K, last partial batch dropped


@pytest.mark.parametrize('config,epochs', [('vitb16_in1k', 300), ('vitb16_in1k_100e', 100)])
def test_schedule_is_beits(config, epochs, assert_beits_schedule):
    assert ITERATIONS == 625
    cfg = Config.fromfile(ROOT / f'configs/mvp/{config}.py')
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.optim_wrapper.optimizer.lr == 1.5e-3
    assert_beits_schedule(cfg, ITERATIONS, warmup=10, floor=1e-5)
