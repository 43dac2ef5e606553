"""The learning rate of the ImageNet configs against BEiT's schedule, computed independently."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

ROOT = Path(__file__).parents[2]
ITERATIONS = 1281167 // 2048  # an epoch of ImageNet-1K, last partial batch dropped


def beits_rate(iteration, epochs):
    """BEiT's cosine_scheduler (warm-up from 1e-6 instead of 0)."""
    warmup = 10 * ITERATIONS
    if iteration < warmup:
        return 1e-6 + (1.5e-3 - 1e-6) * iteration / (warmup - 1)
    rest = epochs * ITERATIONS - warmup
    cosine = math.cos(math.pi * (iteration - warmup) / rest)
    return 1e-5 + 0.5 * (1.5e-3 - 1e-5) * (1 + cosine)


@pytest.mark.parametrize('config,epochs', [('vitb16_in1k', 300), ('vitb16_in1k_100e', 100)])
def test_schedule_is_beits(config, epochs):
    assert ITERATIONS == 625
    cfg = Config.fromfile(ROOT / f'configs/mvp/{config}.py')
    assert cfg.train_cfg.max_epochs == epochs
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = []
    for scheduler in cfg.param_scheduler:
        scheduler = dict(scheduler)
        assert scheduler.pop('convert_to_iter_based')  # a step every iteration
        cls = PARAM_SCHEDULERS.get(scheduler.pop('type'))
        schedulers.append(
            cls.build_iter_from_epoch(optimizer=optimizer, epoch_length=ITERATIONS, **scheduler)
        )
    total = epochs * ITERATIONS
    checked = {0, 1, 5 * ITERATIONS, 10 * ITERATIONS - 1, 10 * ITERATIONS, total // 2, total - 1}
    for iteration in range(total):
        if iteration in checked:
            rate = optimizer.param_groups[0]['lr']
            assert rate == pytest.approx(beits_rate(iteration, epochs), rel=1e-4), iteration
        for scheduler in schedulers:
            scheduler.step()
