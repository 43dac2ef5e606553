"""A batch of one image with batch normalisation is told by the option that makes it."""

import pytest
import torch
from exact_runs import Model, Watch, build, finish
from torch import nn


def test_batches_of_one(tmp_path):
    says = r'^train_dataloader.batch_size=1, and batch normalisation .*train_dataloader.batch_size=2'
    with pytest.raises(ValueError, match=says):
        build(tmp_path, Watch(), batch=1).train()


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_last_batch_of_one(by_epoch, tmp_path):
    watch = Watch()
    says = r'one image \(25 images in batches of 4\), and batch .* set train_dataloader.drop_last=True'
    with pytest.raises(ValueError, match=says):
        build(tmp_path, watch, size=25, by_epoch=by_epoch, sampler='DefaultSampler').train()
    assert len(watch.losses) <= 1  # not after an epoch of work


class Maps(Model):
    """Batch normalisation of more than one value an image."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Unflatten(1, (1, 3)), nn.BatchNorm1d(1), nn.Flatten(), nn.Linear(3, 1))


@pytest.mark.parametrize(
    'more', [dict(size=26), dict(size=25, sampler='InfiniteSampler', by_epoch=False), {}]
)
def test_others_train(more, tmp_path, monkeypatch):
    if not more:
        monkeypatch.setattr('exact_runs.Model', Maps)
        more = dict(size=25)
    watch = Watch()
    losses, _ = finish(build(tmp_path, watch, **more), watch)
    assert len(losses) >= 12 and all(torch.tensor(loss).isfinite() for *_, loss in losses)
