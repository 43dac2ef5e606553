import errno
import functools
import hashlib
import io
import re

import numpy as np
import pytest

from mvp_mm.datasets.prepare import ChecksumError, DownloadError, download_file

DATA = np.random.default_rng(0).bytes(600_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
CUT = 200_000
download = functools.partial(download_file, progress=False)


@pytest.fixture
def server(serve):
    return serve(DATA)


@pytest.fixture
def target(tmp_path):
    return tmp_path / 'down' / 'data.bin'


def test_downloads_once(server, target, names):
    assert download(server.url(), target, SHA256.upper()) == target
    assert download(server.url(), target, SHA256) == target
    assert target.read_bytes() == DATA
    assert server.asked == [None] and names(target.parent) == ['data.bin']


@pytest.mark.parametrize('ranges', [True, False])
def test_a_cut_connection_is_resumed(server, target, names, ranges):
    server.ranges, server.cuts = ranges, [CUT]
    download(server.url(), target)
    assert server.asked == [None, f'bytes={CUT}-']
    assert target.read_bytes() == DATA and names(target.parent) == ['data.bin']


@pytest.mark.parametrize('checked', [True, False])
def test_the_next_call_resumes_what_it_can_check(server, target, names, checked):
    sha256 = SHA256 if checked else None
    answer = server.answer

    def cut_once(handler):
        server.cuts, server.answer = [CUT], answer
        answer(handler)
        server.statuses = [503]

    server.answer = cut_once
    with pytest.raises(DownloadError, match=r'503(.|\n)*200,000 bytes are kept' if checked else '503'):
        download(server.url(), target, sha256)
    assert names(target.parent) == (['data.bin.part'] if checked else [])
    download(server.url(), target, sha256)
    assert server.asked[2:] == [f'bytes={CUT}-' if checked else None]
    assert target.read_bytes() == DATA and names(target.parent) == ['data.bin']


@pytest.mark.parametrize('size', [600_000, 500_000, 100_000])
def test_a_part_of_another_version_is_thrown_away(server, target, size):
    target.parent.mkdir()
    target.with_name('data.bin.part').write_bytes(DATA[::-1][:CUT])
    server.data = DATA[:size]
    download(server.url(), target, hashlib.sha256(DATA[:size]).hexdigest())
    assert server.asked == [f'bytes={CUT}-', None] and target.read_bytes() == DATA[:size]


def test_a_server_that_always_breaks_is_given_up(server, target, names):
    server.cuts = [0] * 50
    with pytest.raises(DownloadError, match='could not be downloaded'):
        download(server.url(), target)
    assert len(server.asked) == 6 and names(target.parent) == []


def test_wrong_checksum_is_refused_and_deleted(server, target, names):
    with pytest.raises(ChecksumError, match=f'{SHA256}, expected {"0" * 64}'):
        download(server.url(), target, '0' * 64)
    assert names(target.parent) == [] and server.asked == [None]
    target.write_bytes(b"somebody's")
    with pytest.raises(ChecksumError, match='there already'):
        download(server.url(), target, SHA256)
    assert target.read_bytes() == b"somebody's" and server.asked == [None]


def test_bad_mirrors_are_passed_over(serve, server, target):
    wrong, gone = serve(b'wrong'), serve(DATA)
    gone.statuses = [404]
    download([wrong.url(), gone.url(), server.url()], target, SHA256)
    assert [len(each.asked) for each in (wrong, gone, server)] == [1, 1, 1]
    assert target.read_bytes() == DATA


def test_all_mirrors_failing_is_one_error(serve, server, target, names):
    server.statuses = [404]
    busy = serve(DATA)
    busy.statuses = [503] * 9
    urls = [server.url('a'), busy.url('b'), 'http://127.0.0.1:1/c']
    with pytest.raises(DownloadError) as caught:
        download(urls, target)
    text = str(caught.value)
    for url, reason in zip(urls, ('404', '503', 'refused'), strict=True):
        assert re.search(f'{re.escape(url)}: .*{reason}', text)
    assert 'proxy' in text and names(target.parent) == []


def test_a_full_disk_leaves_nothing(server, target, names, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > 300_000:
                raise OSError(errno.ENOSPC, 'No space left on device')
            return super().write(data)

    monkeypatch.setattr('pathlib.Path.open', lambda path, mode: Full(path, mode))
    with pytest.raises(OSError, match='the disk is full while downloading') as caught:
        download(server.url(), target)
    assert caught.value.errno == errno.ENOSPC and names(target.parent) == []


def test_bad_arguments(server, target):
    with pytest.raises(ValueError, match='no address to download from'):
        download('file:///etc/hosts', target)
    with pytest.raises(ValueError, match='expected 64 hexadecimal digits'):
        download(server.url(), target, sha256='abc')
    with pytest.raises(ValueError, match='at least one'):
        download([], target)
