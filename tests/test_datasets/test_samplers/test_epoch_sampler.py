"""The same total batches whatever the number of processes."""

from collections import Counter

import pytest
from mmengine.dataset import sampler as mmengine_sampler

from mvp_mm.datasets import EpochSampler


@pytest.fixture
def ranks(monkeypatch):
    """``ranks(n)``: pretend to be each of n processes in turn."""

    def each(world_size):
        for rank in range(world_size):
            monkeypatch.setattr(mmengine_sampler, 'get_dist_info', lambda rank=rank: (rank, world_size))
            yield rank

    return each


def total_batches(ranks, size, total, world_size, batch, epoch=0):
    """Images of each optimiser step, all processes together."""
    accumulation = total // (world_size * batch)
    steps = []
    for _ in ranks(world_size):
        sampler = EpochSampler(range(size), total_batch=total, seed=4)
        sampler.set_epoch(epoch)
        indices = [int(index) for index in sampler]
        assert len(indices) == len(sampler)
        per_step = batch * accumulation
        for step, start in enumerate(range(0, len(indices), per_step)):
            if step == len(steps):
                steps.append(Counter())
            steps[step].update(indices[start : start + per_step])
    return steps


def test_total_batches_do_not_depend_on_processes(ranks):
    expected = total_batches(ranks, 100, 16, world_size=1, batch=16)
    assert [sum(step.values()) for step in expected] == [16] * 6
    assert max(sum(expected, Counter()).values()) == 1  # no image twice
    for world_size, batch in [(1, 4), (1, 1), (2, 8), (2, 4), (2, 1), (4, 4), (4, 2), (4, 1)]:
        assert total_batches(ranks, 100, 16, world_size, batch) == expected
    following = total_batches(ranks, 100, 16, world_size=4, batch=2, epoch=1)
    assert following != expected
    assert following == total_batches(ranks, 100, 16, world_size=1, batch=16, epoch=1)


@pytest.mark.parametrize(
    ('world_size', 'batch', 'iterations'), [(8, 256, 625), (1, 256, 5000), (16, 64, 1250)]
)
def test_imagenet_epoch(ranks, world_size, batch, iterations):
    for _ in ranks(world_size):
        sampler = EpochSampler(range(1_281_167), total_batch=2048, seed=0)
        assert len(sampler) / batch == iterations


def test_small_dataset_is_not_cut(ranks):
    for _ in ranks(1):
        assert sorted(EpochSampler(range(10), total_batch=16, seed=0)) == list(range(10))
    dealt = []
    for _ in ranks(3):
        sampler = EpochSampler(range(10), total_batch=16, seed=0)
        assert len(sampler) == 3  # the same for all, or processes would wait for each other
        dealt += list(sampler)
    assert len(set(dealt)) == 9


def test_too_few_images(ranks):
    for _ in ranks(4):
        with pytest.raises(ValueError, match='3 images cannot be dealt out to 4 processes'):
            EpochSampler(range(3), seed=0)


def test_order(ranks):
    for _ in ranks(1):
        sampler = EpochSampler(range(50), seed=0)
        first = list(sampler)
        assert list(sampler) == first != list(range(50))
        assert {(index.epoch, index.seed) for index in first} == {(0, 0)}
        sampler.set_epoch(1)
        assert {index.epoch for index in sampler} == {1}
        assert list(sampler) != first
        assert list(EpochSampler(range(50), seed=1)) != first
        assert list(EpochSampler(range(50), shuffle=False, seed=1)) == list(range(50))
    for rank in ranks(2):
        assert list(EpochSampler(range(50), shuffle=False, seed=1)) == list(range(rank, 50, 2))


def test_every_order_is_about_uniform(ranks):
    for _ in ranks(1):
        sampler = EpochSampler(range(6), seed=0)
        firsts = Counter()
        for epoch in range(3000):
            sampler.set_epoch(epoch)
            firsts[int(next(iter(sampler)))] += 1
        assert all(abs(count - 500) < 80 for count in firsts.values())
