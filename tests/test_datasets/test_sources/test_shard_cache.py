"""Shards from elsewhere: brought whole, once, and no more than fit."""

import os
import threading
import time
from collections import Counter

import fsspec
import pytest
from mmengine.dataset import default_collate
from tar_shards import samples, write_shards, write_tar
from torch.utils.data import DataLoader

from mvp_mm.datasets import ImageTextShards, ShardSampler
from mvp_mm.datasets.sources import shard_cache
from mvp_mm.datasets.sources.shard_cache import ShardCache

SIZES = (4, 3, 5, 4)


@pytest.fixture
def remote(tmp_path):
    """Put shards into fsspec's memory; returns the file system and the address."""
    memory = fsspec.filesystem('memory')
    memory.store.clear()
    for path in write_shards(tmp_path / 'local', SIZES):
        memory.pipe_file(f'/bucket/{path.name}', path.read_bytes())
    yield memory
    memory.store.clear()


def whole_shards(folder):
    return {path.name.partition('-')[2]: path.stat().st_size for path in folder.glob('*.tar')}


def captions(source):
    return [source[number]['caption'] for number in range(len(source))]


EXPECTED = [f'number {number}' for number in range(sum(SIZES))]


@pytest.mark.parametrize('pattern', ['*.tar', 'train-{0000..0003}.tar', ''])
def test_as_local_ones(remote, tmp_path, pattern):
    source = ImageTextShards(f'memory://bucket/{pattern}', cache_dir=str(tmp_path / 'cache'))
    assert source.shard_sizes == list(SIZES) and captions(source) == EXPECTED
    assert source[0]['key'] == 'memory:///bucket/train-0000.tar/000000.jpg'
    assert set(whole_shards(tmp_path / 'cache')) == {f'train-000{n}.tar' for n in range(4)}


def test_indices_outlive_the_shards(remote, tmp_path, monkeypatch):
    cache = tmp_path / 'cache'
    ImageTextShards('memory://bucket/*.tar', cache_dir=str(cache))
    for path in cache.glob('*.tar'):
        path.unlink()
    source = ImageTextShards('memory://bucket/*.tar', cache_dir=str(cache))
    assert len(source) == 16 and whole_shards(cache) == {}
    assert source[5]['caption'] == 'number 5' and list(whole_shards(cache)) == ['train-0001.tar']


def test_indices_that_lie_beside_remote_shards(remote, tmp_path):
    ImageTextShards(str(tmp_path / 'local'))
    for path in (tmp_path / 'local').glob('*.index'):
        remote.pipe_file(f'/bucket/{path.name}', path.read_bytes())
    cache = tmp_path / 'cache'
    source = ImageTextShards('memory://bucket/*.tar', cache_dir=str(cache))
    assert len(source) == 16 and whole_shards(cache) == {}  # no shard was brought to be indexed
    assert captions(source) == EXPECTED
    remote.pipe_file('/bucket/train-0000.tar.index', b'damaged')
    again = ImageTextShards('memory://bucket/*.tar', cache_dir=str(tmp_path / 'other'))
    assert captions(again) == EXPECTED


def test_the_cache_is_bounded(remote, tmp_path, monkeypatch):
    sizes = [info['size'] for info in remote.ls('/bucket', detail=True)]
    limit, cache = 2 * max(sizes) + 100, tmp_path / 'cache'
    most = []
    transfer = ShardCache._transfer

    def watched(self, address, partial):
        transfer(self, address, partial)
        kept = [path for path in cache.iterdir() if path.suffix in ('.tar', '.partial')]
        most.append(sum(path.stat().st_size for path in kept))

    monkeypatch.setattr(ShardCache, '_transfer', watched)
    source = ImageTextShards('memory://bucket/*.tar', cache_dir=str(cache), cache_bytes=limit)
    assert captions(source) == EXPECTED and captions(source)[::-1] == EXPECTED[::-1]
    assert len(most) >= 6 and max(most) <= limit


def test_the_least_recently_used_goes(remote, tmp_path, monkeypatch):
    sizes = [info['size'] for info in remote.ls('/bucket', detail=True)]
    cache = tmp_path / 'cache'
    source = ImageTextShards('memory://bucket/*.tar', cache_dir=str(cache))
    for path in cache.glob('*.tar'):
        path.unlink()
    source.cache.max_bytes = 2 * max(sizes) + 100
    for index in (0, 4):
        source[index]
    for age, path in enumerate(sorted(cache.glob('*.tar'), key=lambda path: 'train-0000' in path.name)):
        used = path.stat()  # make shard 1 the older one
        os.utime(path, ns=(used.st_atime_ns - (60 - 30 * age) * 10**9, used.st_mtime_ns))
    source[8]
    assert set(whole_shards(cache)) == {'train-0000.tar', 'train-0002.tar'}
    source[1]  # used again, so the other goes
    source[12]
    assert set(whole_shards(cache)) == {'train-0000.tar', 'train-0003.tar'}


def test_a_shard_larger_than_the_cache(remote, tmp_path):
    with pytest.raises(ValueError, match='has .* bytes, and the cache may hold 5,000: raise cache_bytes'):
        ImageTextShards('memory://bucket/*.tar', cache_dir=str(tmp_path / 'cache'), cache_bytes=5000)
    with pytest.raises(ValueError, match='cache_bytes=0: expected 1 byte or more'):
        ImageTextShards('memory://bucket/*.tar', cache_bytes=0)


def test_every_sample_once_through_a_small_cache(remote, tmp_path):
    sizes = [info['size'] for info in remote.ls('/bucket', detail=True)]
    source = ImageTextShards(
        'memory://bucket/*.tar',
        cache_dir=str(tmp_path / 'cache'),
        cache_bytes=3 * max(sizes),
        pipeline=[dict(type='FastCrop', size=8), dict(type='PackMaskedInputs', fields=('caption',))],
    )
    sampler = ShardSampler(source, window=1, seed=0)
    loader = DataLoader(source, 3, sampler=sampler, num_workers=2, collate_fn=default_collate)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        assert Counter(text for batch in loader for text in batch['caption']) == Counter(EXPECTED)


def test_read_ahead(remote, tmp_path, monkeypatch):
    cache = tmp_path / 'cache'
    source = ImageTextShards('memory://bucket/*.tar', cache_dir=str(cache))
    for path in cache.glob('*.tar'):
        path.unlink()
    sizes = [index.size for index in source._indices]
    source.cache.max_bytes = sizes[2] + sizes[0] + 10  # no room for a third
    source.read_ahead([2], [0, 1])
    until = time.monotonic() + 20
    while len(whole_shards(cache)) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert set(whole_shards(cache)) == {'train-0002.tar', 'train-0000.tar'}
    told = []
    log = 'mvp_mm.datasets.sources.image_text_shards.print_log'
    monkeypatch.setattr(log, lambda text, *more: told.append(text))
    source.cache.max_bytes = sizes[2] + 10
    for _ in range(2):
        source.read_ahead([2, 3], [0])
    assert len(told) == 1 and 'holds less than a window of 2 shards' in told[0]


def test_many_ask_for_the_same(remote, tmp_path, monkeypatch):
    calls = []
    transfer = ShardCache._transfer

    def slow(self, *arguments):
        calls.append(1)
        time.sleep(0.3)
        transfer(self, *arguments)

    monkeypatch.setattr(ShardCache, '_transfer', slow)
    cache, address = ShardCache(str(tmp_path / 'cache'), 1 << 30), 'memory://bucket/train-0000.tar'
    asked = (address, shard_cache.remote_stamp(address))
    threads = [threading.Thread(target=cache.bring, args=asked) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_remote_shard_that_vanishes_or_changes(remote, tmp_path):
    cache = tmp_path / 'cache'
    source = ImageTextShards('memory://bucket/*.tar', cache_dir=str(cache))
    for path in cache.glob('*.tar'):
        path.unlink()
    remote.rm_file('/bucket/train-0001.tar')
    with pytest.raises(FileNotFoundError, match='there is no shard memory:///bucket/train-0001.tar'):
        source[4]
    path = write_tar(tmp_path / 'new.tar', samples(range(9)))
    remote.pipe_file('/bucket/train-0002.tar', path.read_bytes())
    with pytest.raises(ValueError, match='the shard memory:///bucket/train-0002.tar has changed'):
        source[8]
    assert source[0]['caption'] == 'number 0'


def test_a_full_disk(remote, tmp_path, monkeypatch):
    source = ImageTextShards('memory://bucket/*.tar', cache_dir=str(tmp_path / 'cache'))
    for path in (tmp_path / 'cache').glob('*.tar'):
        path.unlink()

    def full(self, address, partial):
        partial.write_bytes(b'some')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(ShardCache, '_transfer', full)
    with pytest.raises(
        OSError, match=r'the disk of .*cache is full: free some space, set cache_dir .*lower cache_'
    ):
        source[0]
    assert not list((tmp_path / 'cache').glob('*.partial'))


def test_an_error_of_the_network(remote, tmp_path, monkeypatch):
    source = ImageTextShards('memory://bucket/*.tar', cache_dir=str(tmp_path / 'cache'))
    for path in (tmp_path / 'cache').glob('*.tar'):
        path.unlink()
    monkeypatch.setattr(shard_cache.time, 'sleep', lambda seconds: None)
    failures, get_file = [], type(remote).get_file

    def flaky(self, *arguments, **options):
        failures.append(1)
        if len(failures) < 3:
            raise TimeoutError('timed out')
        return get_file(self, *arguments, **options)

    monkeypatch.setattr(type(remote), 'get_file', flaky)
    assert source[0]['caption'] == 'number 0' and len(failures) == 3
    monkeypatch.setattr(shard_cache, 'TRIES', 1)
    failures.clear()
    with pytest.raises(OSError, match='memory:///bucket/train-0001.tar cannot be read: timed out'):
        source[4]


def test_what_a_killed_process_left(remote, tmp_path):
    cache = ShardCache(str(tmp_path), 1 << 20)
    left = tmp_path / f'{"0" * 16}-train-0009.tar.999999.partial'
    left.write_bytes(b'')
    (tmp_path / 'notes.txt').write_bytes(bytes(2 << 20))  # of somebody who keeps more in this folder
    assert not cache._reserve(tmp_path / 'a.100000.partial', 100_000)  # another process may be bringing it
    os.utime(left, (0, 0))
    assert cache._reserve(tmp_path / 'a.100000.partial', 100_000) and not left.exists()
    assert (tmp_path / 'notes.txt').exists()


def test_without_network(remote, tmp_path, monkeypatch):
    source = ImageTextShards('memory://bucket/*.tar', cache_dir=str(tmp_path / 'cache'))
    monkeypatch.setenv('MVP_MM_OFFLINE', '1')
    assert captions(source) == EXPECTED
    next((tmp_path / 'cache').glob('*train-0000.tar')).unlink()
    with pytest.raises(
        FileNotFoundError, match='train-0000.tar is not in .*, and the network is switched off'
    ):
        source[0]
