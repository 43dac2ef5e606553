"""Shards in any order, a window at a time; the rest as EpochSampler."""

from collections import Counter
from itertools import islice

import pytest
from mmengine.dataset import sampler as mmengine_sampler
from torch.utils.data import BatchSampler

from mvp_mm.datasets import ShardSampler
from mvp_mm.engine.checkpoint.exact_resume import _Rest


class Shards:
    """As long as its shards; notes what is to be read ahead."""

    def __init__(self, *sizes):
        self.shard_sizes, self.asked = sizes, []

    def __len__(self):
        return sum(self.shard_sizes)

    def read_ahead(self, now, following):
        self.asked.append((list(now), list(following)))


SIZES = (7, 1, 12, 4, 0, 9, 5, 10)
STARTS = [sum(SIZES[:shard]) for shard in range(len(SIZES))]


def shard_of(index):
    return max(shard for shard, start in enumerate(STARTS) if start <= index and SIZES[shard])


def orders(monkeypatch, world_size, epoch=0, **options):
    """Each rank's indices."""
    found = []
    for rank in range(world_size):
        monkeypatch.setattr(mmengine_sampler, 'get_dist_info', lambda rank=rank: (rank, world_size))
        sampler = ShardSampler(Shards(*SIZES), **dict(dict(seed=4, window=3), **options))
        sampler.set_epoch(epoch)
        found.append(list(sampler))
        assert len(found[-1]) == len(sampler)
        assert {(index.epoch, index.seed) for index in found[-1]} == {(epoch, 4)}
    return found


def test_a_window_at_a_time(monkeypatch):
    (order,) = orders(monkeypatch, 1)
    assert sorted(order) == list(range(48))
    shards = [shard_of(index) for index in order]
    left = Counter(shards)
    open_at_once = 0
    seen = set()
    for shard in shards:
        seen.add(shard)
        left[shard] -= 1
        open_at_once = max(open_at_once, sum(left[one] > 0 for one in seen))
    assert 1 < open_at_once <= 3
    assert shards != sorted(shards)
    assert orders(monkeypatch, 1) == [order] != orders(monkeypatch, 1, epoch=1)
    assert orders(monkeypatch, 1, shuffle=False) == [list(range(48))]


def test_windows_have_orders_of_their_own(monkeypatch):
    monkeypatch.setattr(mmengine_sampler, 'get_dist_info', lambda: (0, 1))
    order = list(ShardSampler(Shards(8, 8, 8, 8), window=1, seed=0))
    inside = {tuple(index % 8 for index in order[start : start + 8]) for start in range(0, 32, 8)}
    assert len(inside) == 4


@pytest.mark.parametrize('world_size', [2, 3, 4])
def test_total_batches_do_not_depend_on_processes(monkeypatch, world_size):
    (expected,) = orders(monkeypatch, 1, total_batch=12)
    dealt = orders(monkeypatch, world_size, total_batch=12)
    assert len(expected) == 48 - 48 % 12
    assert [index for together in zip(*dealt, strict=True) for index in together] == expected


def test_a_partial_total_batch_is_dropped(monkeypatch):
    (order,) = orders(monkeypatch, 1, total_batch=20)
    assert len(order) == 40 and len(set(order)) == 40
    seen = Counter(index for epoch in range(8) for index in orders(monkeypatch, 1, epoch, total_batch=20)[0])
    assert set(seen) == set(range(48))  # other ones in every epoch


@pytest.mark.parametrize('start', [0, 1, 5, 11, 15])
def test_restart_in_the_middle_of_an_epoch(monkeypatch, start):
    """As ExactResume does: nothing lost, nothing repeated."""
    (order,) = orders(monkeypatch, 1, epoch=2)
    sampler = ShardSampler(Shards(*SIZES), seed=4, window=3)
    sampler.set_epoch(2)
    rest = list(BatchSampler(_Rest(sampler, start * 3), 3, True))
    assert [*order[: start * 3], *(index for batch in rest for index in batch)] == order


def test_read_ahead(monkeypatch):
    monkeypatch.setattr(mmengine_sampler, 'get_dist_info', lambda: (0, 1))
    source = Shards(*SIZES)
    sampler = iter(ShardSampler(source, seed=4, window=3))
    assert source.asked == []
    next(sampler)
    ((now, following),) = source.asked
    assert len(now) == len(following) == 3 and len({*now, *following}) == 6
    list(islice(sampler, sum(SIZES[shard] for shard in now)))
    assert source.asked[1][0] == following
    list(sampler)
    assert [len(now) for now, _ in source.asked] == [3, 3, 2]
    again = ShardSampler(source, seed=4, window=3)
    again.set_epoch(1)
    next(iter(again))
    last, first = source.asked[2][1], source.asked[3][0]
    assert last == first and {shard.epoch for shard in last} == {1} == {shard.epoch for shard in first}


def test_what_it_refuses(monkeypatch):
    monkeypatch.setattr(mmengine_sampler, 'get_dist_info', lambda: (0, 1))
    with pytest.raises(ValueError, match='range has none: use EpochSampler'):
        ShardSampler(range(8), seed=0)
    with pytest.raises(ValueError, match='window=0: expected 1'):
        ShardSampler(Shards(3), window=0, seed=0)
