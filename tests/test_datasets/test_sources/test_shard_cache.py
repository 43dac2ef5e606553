"""Shards from elsewhere: brought whole, once, and no more than fit."""

import functools
import http.server
import os
import threading
import time
import types
from collections import Counter

import fsspec
import pytest
from faults.faulty_files import FaultyFileSystem
from filelock import FileLock
from mmengine.dataset import default_collate
from tar_shards import samples, write_shards, write_tar
from torch.utils.data import DataLoader

from mvp_mm.datasets import ImageTextShards, ShardSampler
from mvp_mm.datasets import write_shards as write_with_sums
from mvp_mm.datasets.sources import shard_cache, shard_files
from mvp_mm.datasets.sources.shard_cache import ShardCache

from ...conftest import write_images

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

    def watched(self, *arguments):
        transfer(self, *arguments)
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


@pytest.mark.slow
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

    def full(self, address, partial, *more):
        partial.write_bytes(b'some')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(ShardCache, '_transfer', full)
    with pytest.raises(
        OSError, match=r'the disk of .*cache is full: free some space, set cache_dir .*lower cache_'
    ):
        source[0]
    assert not list((tmp_path / 'cache').glob('*.partial'))


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """Shards and their indices behind a network that fails as told; returns the source, with nothing here."""
    write_images(tmp_path / 'images', 12, (16, 16))
    write_with_sums(tmp_path / 'images', tmp_path / 'far', per_shard=4, progress=False)
    monkeypatch.setattr(shard_files.time, 'sleep', lambda seconds: None)
    monkeypatch.setattr(FaultyFileSystem, 'plan', [])
    source = ImageTextShards(f'faulty://{tmp_path}/far/*.tar', cache_dir=str(tmp_path / 'cache'))
    assert whole_shards(tmp_path / 'cache') == {}
    FaultyFileSystem.transfers.clear()
    return source


def cut(content):
    return content[:-100]


def flipped(content):
    return content[:900] + bytes([content[900] ^ 1]) + content[901:]


@pytest.mark.parametrize(
    ('fault', 'message'),
    [
        (TimeoutError('timed out'), 'cannot be read: timed out'),
        (RuntimeError('of a library'), 'cannot be read: RuntimeError: of a library'),
        (cut, r'cannot be read: 10,140 of 10,240 bytes came'),
        (flipped, 'cannot be read: its sha256 is .*, and .* in its .index: upload both'),
    ],
)
def test_an_error_of_the_network(faulty, tmp_path, fault, message):
    FaultyFileSystem.plan[:] = [fault] * 2
    assert faulty[0]['img_bytes'] and FaultyFileSystem.transfers == ['train-0000.tar'] * 3
    FaultyFileSystem.plan[:] = [fault] * 3
    with pytest.raises(OSError, match=f'^faulty:///.*/train-0001.tar {message}'):
        faulty[4]
    assert set(whole_shards(tmp_path / 'cache')) == {'train-0000.tar'}
    assert not list((tmp_path / 'cache').glob('*.partial'))
    assert faulty[4]['img_bytes']


def test_what_is_not_tried_again(faulty):
    for error in (PermissionError(13, 'Permission denied'), OSError(28, 'No space left on device')):
        FaultyFileSystem.plan[:] = [error] * 2
        with pytest.raises(type(error)):
            faulty[0]
        assert len(FaultyFileSystem.plan) == 1
    FaultyFileSystem.plan.clear()


def test_reading_ahead_gives_up_the_past(faulty, tmp_path, monkeypatch):
    """A resumed epoch asks for all the windows that it skips."""
    go_on = threading.Event()
    get_file = FaultyFileSystem.get_file

    def held(self, *arguments, **options):
        go_on.wait(20)
        return get_file(self, *arguments, **options)

    monkeypatch.setattr(FaultyFileSystem, 'get_file', held)
    monkeypatch.setattr(shard_cache, 'LANES', 1)
    for now in (0, 1, 2):
        faulty.read_ahead([now], [])
        until = time.monotonic() + 20
        while now == 0 and faulty.cache._ahead and time.monotonic() < until:
            time.sleep(0.01)  # until the first is begun
    go_on.set()
    until = time.monotonic() + 20
    while faulty.cache._lanes and time.monotonic() < until:
        time.sleep(0.01)
    assert FaultyFileSystem.transfers == ['train-0000.tar', 'train-0002.tar']


def test_a_shard_that_is_evicted_before_it_is_read(faulty, tmp_path, monkeypatch):
    bring, evicted = ShardCache.bring, []

    def unlucky(self, *arguments):
        path = bring(self, *arguments)
        if len(evicted) < 3:
            evicted.append(path.unlink())
        return path

    monkeypatch.setattr(ShardCache, 'bring', unlucky)
    assert faulty[0]['img_bytes'] and len(FaultyFileSystem.transfers) == 4
    shard_cache.touch(tmp_path / 'evicted.tar', types.SimpleNamespace(st_atime_ns=0, st_mtime_ns=0))
    file, handle = faulty._open(faulty.shards[0], faulty._indices[0])
    os.unlink(file)
    assert os.pread(handle, 5, 0) == b'00000'  # whoever has it open reads on
    os.close(handle)


@pytest.mark.slow
def test_over_http(remote, tmp_path):
    """A server without listings and ETags; loader workers are forked when the main process has asked it."""
    pytest.importorskip('aiohttp', reason='fsspec reads http by aiohttp')
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            asked.append((self.command, self.path.rpartition('/')[2]))

        def list_directory(self, path):
            self.send_error(403)

    handler = functools.partial(Handler, directory=str(tmp_path / 'local'))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f'http://127.0.0.1:{server.server_port}'
        source = ImageTextShards(f'{root}/train-{{0000..0003}}.tar', cache_dir=str(tmp_path / 'cache'))
        assert source.shards[3] == f'{root}/train-0003.tar'
        for path in (tmp_path / 'cache').glob('*.tar'):
            path.unlink()
        loader = DataLoader(
            source, 4, num_workers=1, collate_fn=lambda batch: [one['caption'] for one in batch]
        )
        assert [text for batch in loader for text in batch] == EXPECTED
        assert asked.count(('GET', 'train-0001.tar')) == 2  # to index it, and again
        with pytest.raises(FileNotFoundError, match=f'there is no shard {root}/gone.tar'):
            ImageTextShards(f'{root}/gone.tar', cache_dir=str(tmp_path / 'cache'))
        server.shutdown()


def test_what_a_killed_process_left(remote, tmp_path):
    cache, here = ShardCache(str(tmp_path), 1 << 20), tmp_path / f'{"0" * 16}-train-0009.tar'
    left = here.with_name(f'{here.name}.999999.partial')
    left.write_bytes(b'')
    (tmp_path / 'notes.txt').write_bytes(bytes(2 << 20))  # of somebody who keeps more in this folder
    with FileLock(f'{here}.lock'):  # another process is bringing it
        assert not cache._reserve(tmp_path / 'a.100000.partial', 100_000)
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
    remote.store.clear()
    cache = dict(cache_dir=str(tmp_path / 'cache'))
    again = ImageTextShards('memory://bucket/train-{0000..0003}.tar', **cache)
    assert [again[number]['caption'] for number in range(4, 16)] == EXPECTED[4:]
    with pytest.raises(
        FileNotFoundError, match='train-0004.tar was never in .*, and the network is switched'
    ):
        ImageTextShards('memory://bucket/train-0004.tar', **cache)
