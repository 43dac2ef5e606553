from collections import Counter

import numpy as np
import pytest
from mmpretrain.registry import DATASETS
from tar_shards import image, write_shards

from mvp_mm.datasets import EpochSampler, SampleIndex, SampleSource, ShardSampler, SourceMixture


@DATASETS.register_module()
class NumberedSource(SampleSource):
    """Samples that are a name and a number, and a draw."""

    def __init__(self, name, size, sizes=None, **kwargs):
        super().__init__(**kwargs)
        self.name, self.size, self.shard_sizes = name, size, sizes

    def __len__(self):
        return self.size

    def sample(self, index):
        return f'{self.name}{index}', None, dict(img=0, number=index, source=self.name)


def of(name, size, **options):
    return dict(type='NumberedSource', name=name, size=size, **options)


def keys(mixture, epoch=0, seed=0):
    return [mixture[SampleIndex(n, epoch, seed)]['key'] for n in range(len(mixture))]


def counts(found):
    return Counter(key[0] for key in found)


def test_shares():
    mixture = SourceMixture([of('a', 30), of('b', 70)], [3, 1], length=80)
    for epoch in range(3):
        assert counts(keys(mixture, epoch)) == dict(a=60, b=20)
    assert counts(keys(SourceMixture([of('a', 30), of('b', 70)]))) == dict(a=30, b=70)
    uneven = SourceMixture([of('a', 9), of('b', 9), of('c', 9)], [1, 1, 1], length=100)
    assert sorted(counts(keys(uneven)).values()) == [33, 33, 34]
    found = keys(mixture)
    for start in range(0, 80, 8):  # any stretch holds the shares
        assert 5 <= counts(found[start : start + 8])['a'] <= 7


@pytest.mark.parametrize('sizes', [None, (4, 1, 5)])
def test_each_once_before_any_again(sizes):
    mixture = SourceMixture([of('a', 10, sizes=sizes), of('b', 7)], [6, 4], length=10)
    epochs = [keys(mixture, epoch) for epoch in range(10)]
    assert keys(mixture, 3) == epochs[3]
    for name, size in (('a', 10), ('b', 7)):
        seen = [key for epoch in epochs for key in epoch if key[0] == name]
        for start in range(0, len(seen) - size + 1, size):
            assert len(set(seen[start : start + size])) == size
    passes = [
        tuple(key for epoch in epochs for key in epoch if key[0] == 'a')[at : at + 10] for at in (0, 10, 20)
    ]
    if sizes is None:
        assert len(set(passes)) == 3
    assert [keys(mixture, epoch, 1) for epoch in range(10)] != epochs


def test_all_processes_together(monkeypatch):
    mixture, found = SourceMixture([of('a', 10), of('b', 7)], [1, 1], length=12), []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        found += [mixture[index]['key'] for index in EpochSampler(mixture, seed=0)]
    assert counts(found) == dict(a=6, b=6) and len(set(found)) == 12


def test_draws_differ_between_visits():
    import random

    def draw(results):
        return dict(key=results['key'], draw=random.random())

    mixture = SourceMixture([of('a', 1), of('b', 1)], length=6, pipeline=[draw])
    found = [mixture[SampleIndex(n, epoch, 0)] for epoch in range(2) for n in range(6)]
    assert len({sample['draw'] for sample in found}) == 12
    assert [mixture[SampleIndex(n, 0, 0)] for n in range(6)] == found[:6]


def test_shards_stay_together():
    sizes = [5] * 8
    mixture = SourceMixture([of('a', 40, sizes=sizes), of('b', 20)], [2, 1], length=60)
    assert mixture.shard_sizes == [8, 7, 7, 8, 8, 7, 7, 8] and sum(mixture.shard_sizes) == 60
    order = [mixture[index]['key'] for index in ShardSampler(mixture, window=2, seed=3)]
    assert counts(order) == dict(a=40, b=20) and len(set(order)) == 60
    for start in range(0, 60, 15):
        shards = {int(key[1:]) // 5 for key in order[start : start + 15] if key[0] == 'a'}
        assert len(shards) <= 4  # of 8
    assert SourceMixture([of('a', 4)]).shard_sizes is None


@pytest.mark.parametrize('weights', [[2, 1, 1], [1, 5, 1]])
def test_read_ahead(monkeypatch, weights):
    """Each source is asked for exactly the shards in which the samples of a window lie."""
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (0, 1))
    sources = [of('a', 40, sizes=[5] * 8), of('b', 21, sizes=[4, 10, 7]), of('c', 9)]
    mixture = SourceMixture(sources, weights, length=70)
    asked = {}
    for number, source in enumerate(mixture.sources[:2]):
        source.read_ahead = lambda now, following, number=number: asked.update({number: (now, following)})
    ends = [np.cumsum(source.shard_sizes) for source in mixture.sources[:2]]

    def needed(window):
        found = [set(), set()]
        for index in window:
            source, inner = mixture.find(index)
            if source < 2:
                found[source].add(int(np.searchsorted(ends[source], inner, 'right')))
        return found

    sampler = ShardSampler(mixture, window=2, seed=3)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        windows, before = {}, None
        for index in sampler:
            if asked:
                before, asked = asked, {}
                windows[len(windows)] = (before, [])
            windows[len(windows) - 1][1].append(index)
        indices = [window for _, window in windows.values()]
        for number, (told, window) in windows.items():
            assert [set(told[source][0]) for source in range(2)] == needed(window)
            if number + 1 < len(windows):
                assert [set(told[source][1]) for source in range(2)] == needed(indices[number + 1])


def test_real_shards_and_lists(tmp_path):
    write_shards(tmp_path / 'shards', [3, 3])
    (tmp_path / 'list').mkdir()
    for number in range(4):
        (tmp_path / 'list' / f'{number}.jpg').write_bytes(image(number))
        (tmp_path / 'list' / f'{number}.txt').write_text(f'beside {number}')
    pipeline = [dict(type='FastCrop', size=8), dict(type='PackMaskedInputs', fields=('caption',))]
    mixture = SourceMixture(
        [
            dict(type='ImageTextShards', data_root=str(tmp_path / 'shards')),
            dict(type='ImageTextList', data_root=str(tmp_path / 'list')),
        ],
        pipeline=pipeline,
    )
    captions = {mixture[index]['caption'] for index in ShardSampler(mixture, seed=0)}
    assert captions == {*(f'number {n}' for n in range(6)), *(f'beside {n}' for n in range(4))}


def test_what_it_refuses():
    for weights in ([1], [1, 0], [1, -1], []):
        with pytest.raises(ValueError, match='expected a number above 0 for each of 2 sources'):
            SourceMixture([of('a', 4), of('b', 4)], weights)
    with pytest.raises(ValueError, match='have none of source 1'):
        SourceMixture([of('a', 4), of('b', 4)], [1000, 1], length=10)
