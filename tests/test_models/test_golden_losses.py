"""A refactor or a faster path proves itself by the same losses."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from mvp_mm.datasets.scenes import SceneCollection

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / 'tests/data/golden_losses.json'


def losses(steps=8):
    """Float32 losses of the debug config on rendered images, one fixed batch a step."""
    cfg = Config.fromfile(ROOT / 'configs/mvp/vittiny_debug.py')
    cfg.model.backbone.drop_path_rate = 0.0
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.05)
    generator = torch.Generator().manual_seed(0)
    scenes = SceneCollection('train', 8 * steps)
    found = []
    for step in range(steps):
        images = torch.stack([torch.from_numpy(scenes[8 * step + i][0]) for i in range(8)])
        images = images.permute(0, 3, 1, 2)
        mask = torch.rand(8, 8, 8, generator=generator) < 0.4
        out = model.loss(**model.data_preprocessor(dict(inputs=images, mask=mask)))
        optimizer.zero_grad()
        out['loss'].backward()
        optimizer.step()
        found.append(out['loss'].item())
    return found


def test_losses_are_the_golden_ones():
    assert losses() == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-4)


if __name__ == '__main__':  # after a change of the method itself: write them anew
    import mvp_mm  # noqa: F401

    GOLDEN.write_text(json.dumps([round(loss, 6) for loss in losses()]) + '\n')
