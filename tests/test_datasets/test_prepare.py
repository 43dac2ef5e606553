"""Downloading, unpacking and checking data sets, against a server on this machine."""

import contextlib
import errno
import functools
import hashlib
import http.server
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvp_mm.datasets.prepare import (
    ChecksumError,
    DownloadError,
    UnpackLimits,
    check_imagenet,
    download_file,
    prepare_ade20k,
    unpack_archive,
    verify_ade20k,
)
from mvp_mm.datasets.prepare import ade20k as ade20k_module
from mvp_mm.datasets.prepare import download as download_module

ROOT = Path(__file__).parents[2]
DATA = np.random.default_rng(0).bytes(600_000)
CUT = 200_000
download = functools.partial(download_file, wait=0.0, timeout=5.0, progress=False)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('no_proxy', '127.0.0.1')


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Server:
    """Gives ``data`` at any path, the way that a test asks for; keeps the requests' headers."""

    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.etag = '"one"'
        self.ranges = True
        self.minds_if_range = True
        self.cuts: list[int] = []  # close the next connections after so many bytes
        self.statuses: list[int] = []  # answer the next requests with these
        self.requests: list[dict] = []

    def url(self, name: str = 'data.bin') -> str:
        return f'http://127.0.0.1:{self.port}/{name}'

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        asked = dict(handler.headers)
        self.requests.append(asked)
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        start = 0
        same = not self.minds_if_range or asked.get('If-Range', self.etag) == self.etag
        if self.ranges and same and (found := re.fullmatch(r'bytes=(\d+)-', asked.get('Range', ''))):
            start = int(found[1])
        body = self.data[start:]
        if start and not body:
            handler.send_response(416)
            handler.send_header('Content-Range', f'bytes */{len(self.data)}')
            handler.send_header('Content-Length', '0')
        elif start:
            handler.send_response(206)
            handler.send_header('Content-Range', f'bytes {start}-{len(self.data) - 1}/{len(self.data)}')
            handler.send_header('Content-Length', str(len(body)))
        else:
            handler.send_response(200)
            handler.send_header('Content-Length', str(len(body)))
        if self.etag:
            handler.send_header('ETag', self.etag)
        handler.end_headers()
        handler.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)


@contextlib.contextmanager
def serving(server: Server):
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self):
            with contextlib.suppress(ConnectionError):  # of a client that has seen enough
                server.answer(self)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as listening:
        server.port = listening.server_address[1]
        thread = threading.Thread(
            target=listening.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True
        )
        thread.start()
        yield server
        listening.shutdown()


@pytest.fixture
def server():
    with serving(Server()) as running:
        yield running


@pytest.fixture
def target(tmp_path):
    return tmp_path / 'down' / 'data.bin'


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# Downloading


def test_downloads_once(server, target):
    assert download(server.url(), target, sha256=sha256(DATA), md5=hashlib.md5(DATA).hexdigest()) == target
    assert download(server.url(), target, sha256=sha256(DATA)) == target
    assert target.read_bytes() == DATA
    assert len(server.requests) == 1
    assert names(target.parent) == ['data.bin']


def test_interrupted_download_resumes(server, target):
    server.cuts = [CUT]
    download(server.url(), target)
    assert [request.get('Range') for request in server.requests] == [None, f'bytes={CUT}-']
    assert server.requests[1]['If-Range'] == '"one"'
    assert target.read_bytes() == DATA
    assert names(target.parent) == ['data.bin']


def test_resumes_in_the_next_process(server, target):
    server.cuts = [CUT, 0]
    with pytest.raises(DownloadError, match=r'200,000 of 600,000 bytes(.|\n)*200,000 bytes are kept'):
        download(server.url(), target, attempts=1)
    assert names(target.parent) == ['data.bin.part', 'data.bin.part.json']
    download(server.url(), target)
    assert server.requests[-1]['Range'] == f'bytes={CUT}-'
    assert target.read_bytes() == DATA


def test_progress_counts_as_no_failure(server, target):
    server.cuts = [100_000] * 5
    download(server.url(), target, attempts=1)
    assert len(server.requests) == 6
    assert target.read_bytes() == DATA


def test_server_without_ranges(server, target):
    server.ranges, server.cuts = False, [CUT]
    download(server.url(), target)
    assert len(server.requests) == 2
    assert target.read_bytes() == DATA


def test_server_without_ranges_is_not_asked_for_ever(server, target):
    server.ranges, server.cuts = False, [CUT] * 50
    with pytest.raises(DownloadError, match='closed the connection'):
        download(server.url(), target, attempts=3)
    assert len(server.requests) == 4
    assert not target.exists()


@pytest.mark.parametrize('minds_if_range', [True, False])
@pytest.mark.parametrize('size', [600_000, 500_000, 100_000])
def test_changed_file_starts_again(server, target, minds_if_range, size):
    server.cuts = [CUT, 0]
    with pytest.raises(DownloadError):
        download(server.url(), target, attempts=1)
    server.data, server.etag, server.minds_if_range = DATA[::-1][:size], '"two"', minds_if_range
    download(server.url(), target)
    assert target.read_bytes() == server.data


def test_changed_file_without_a_tag_is_found_by_its_checksum(server, target):
    server.etag, server.cuts = '', [CUT, 0]
    with pytest.raises(DownloadError):
        download(server.url(), target, attempts=1)
    server.data = DATA[::-1]
    download(server.url(), target, sha256=sha256(DATA[::-1]))
    assert [request.get('Range') for request in server.requests[-2:]] == [f'bytes={CUT}-', None]
    assert target.read_bytes() == DATA[::-1]


def test_whole_part_is_only_renamed(server, target):
    server.cuts = [CUT, 0]
    with pytest.raises(DownloadError):
        download(server.url(), target, attempts=1)
    target.with_name('data.bin.part').write_bytes(DATA)
    download(server.url(), target)
    assert server.requests[-1]['Range'] == 'bytes=600000-'
    assert target.read_bytes() == DATA


def test_part_of_unknown_origin_is_not_used(server, target):
    target.parent.mkdir()
    target.with_name('data.bin.part').write_bytes(b'something else')
    download(server.url(), target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize('name', ['sha256', 'md5'])
def test_wrong_checksum_is_refused_and_deleted(server, target, name):
    wrong = '0' * (64 if name == 'sha256' else 32)
    with pytest.raises(ChecksumError, match=f'expected {wrong}') as caught:
        download(server.url(), target, **{name: wrong})
    assert hashlib.new(name, DATA).hexdigest() in str(caught.value)
    assert names(target.parent) == []
    assert len(server.requests) == 1


def test_file_with_another_checksum_is_left_alone(server, target):
    target.parent.mkdir()
    target.write_bytes(b"somebody's")
    with pytest.raises(ChecksumError, match='there already'):
        download(server.url(), target, sha256=sha256(DATA))
    assert target.read_bytes() == b"somebody's"
    assert not server.requests


def test_bad_mirrors_are_passed_over(server, target):
    with serving(Server(b'wrong')) as wrong, serving(Server()) as gone:
        gone.statuses = [404]
        urls = [wrong.url(), gone.url(), server.url()]
        download(urls, target, sha256=sha256(DATA))
        assert [len(each.requests) for each in (wrong, gone, server)] == [1, 1, 1]
    assert target.read_bytes() == DATA


@pytest.mark.parametrize('checked', [True, False])
def test_another_mirror_continues_only_what_is_checked(server, target, checked):
    with serving(Server()) as first:
        first.cuts = [CUT, 0]
        digest = sha256(DATA) if checked else None
        download([first.url(), server.url()], target, sha256=digest, attempts=1)
    assert server.requests[0].get('Range') == (f'bytes={CUT}-' if checked else None)
    assert 'If-Range' not in server.requests[0]
    assert target.read_bytes() == DATA


def test_all_mirrors_failing_is_one_error(server, target):
    server.statuses = [404]
    with serving(Server()) as busy:
        busy.statuses = [503] * 9
        with contextlib.ExitStack() as stack:
            closed = stack.enter_context(serving(Server()))
        urls = [server.url('a'), busy.url('b'), closed.url('c')]
        with pytest.raises(DownloadError) as caught:
            download(urls, target, attempts=2)
        assert len(busy.requests) == 2
    text = str(caught.value)
    for url, reason in zip(urls, ('404', '503', 'cannot be reached'), strict=True):
        assert re.search(f'{re.escape(url)}: .*{reason}', text)
    assert 'proxy' in text
    assert names(target.parent) == []


def test_disk_full(server, target, monkeypatch):
    begin = download_module._Part.begin

    class Full(io.BufferedWriter):
        def write(self, data):
            if self.tell() + len(data) > 300_000:
                raise OSError(errno.ENOSPC, 'No space left on device')
            return super().write(data)

    with monkeypatch.context() as patch:
        patch.setattr(download_module._Part, 'begin', lambda *args: Full(begin(*args).detach()))
        with pytest.raises(OSError, match='the disk is full.*goes on') as caught:
            download(server.url(), target)
    assert caught.value.errno == errno.ENOSPC
    assert len(server.requests) == 1
    assert not target.exists()
    download(server.url(), target)
    assert 'Range' in server.requests[1]
    assert target.read_bytes() == DATA


def test_too_small_disk_is_noticed_first(server, target, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(1000, 500, 500))
    with pytest.raises(OSError, match='500 bytes free, and 600,000 are still') as caught:
        download(server.url(), target)
    assert caught.value.errno == errno.ENOSPC


def test_bad_arguments(server, target):
    with pytest.raises(ValueError, match='no address to download from'):
        download('file:///etc/hosts', target)
    with pytest.raises(ValueError, match='expected 64 hexadecimal digits'):
        download(server.url(), target, sha256='abc')
    with pytest.raises(ValueError, match='at least one'):
        download([], target)


# Unpacking


def write_zip(path: Path, files: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, 0o100644) << 16
            archive.writestr(info, data)
    return path


def write_tar(path: Path, *members: tuple[str, bytes, bytes, str], mode: str = 'w:gz') -> Path:
    with tarfile.open(path, mode) as archive:
        for name, kind, data, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), link
            archive.addfile(info, io.BytesIO(data))
    return path


GOOD = ('top/good.txt', tarfile.REGTYPE, b'good', '')


@pytest.mark.parametrize('kind', ['zip', 'tar', 'tar.gz', 'tar.xz'])
def test_unpacks(tmp_path, kind):
    path = tmp_path / f'a.{kind}'
    if kind == 'zip':
        write_zip(path, {'top/': b'', 'top/good.txt': b'good', 'top/sub/b': DATA, 'other': b''})
    else:
        folder = ('./top', tarfile.DIRTYPE, b'', '')
        nested = ('./top/sub/b', tarfile.REGTYPE, DATA, '')
        write_tar(path, folder, GOOD, nested, mode='w:' + kind.partition('.')[2])
    assert (
        unpack_archive(path, tmp_path / 'out' / 'x', inside='top', progress=False) == tmp_path / 'out' / 'x'
    )
    assert names(tmp_path / 'out') == ['x']
    assert names(tmp_path / 'out/x') == ['good.txt', 'sub']
    assert (tmp_path / 'out/x/sub/b').read_bytes() == DATA
    with pytest.raises(FileExistsError):
        unpack_archive(path, tmp_path / 'out' / 'x', progress=False)


def unsafe_archives(folder: Path) -> dict[str, tuple[Path, str]]:
    good = {'top/good.txt': b'good'}
    link = {'top/link': 0o120777}
    return {
        'zip dots': (write_zip(folder / '1.zip', {**good, 'top/../../evil': b''}), r'\.\.'),
        'zip absolute': (write_zip(folder / '2.zip', {**good, '/absolute/evil': b''}), 'absolute'),
        'zip drive': (write_zip(folder / '3.zip', {**good, 'C:/evil': b''}), 'absolute'),
        'zip backslash': (write_zip(folder / '4.zip', {**good, '..\\evil': b''}), 'backslash'),
        'zip symlink': (write_zip(folder / '5.zip', {**good, 'top/link': b'/etc'}, link), 'symbolic link'),
        'zip device': (write_zip(folder / '6.zip', {**good, 'd': b''}, {'d': 0o020666}), 'device'),
        'zip bomb': (write_zip(folder / '7.zip', {**good, 'zeros': bytes(5_000_000)}), 'bomb'),
        'zip file as folder': (write_zip(folder / '8.zip', {**good, 'top/good.txt/x': b''}), 'a file'),
        'tar dots': (write_tar(folder / '1.tar', GOOD, ('../evil', tarfile.REGTYPE, b'x', '')), r'\.\.'),
        'tar absolute': (write_tar(folder / '2.tar', GOOD, ('/evil', tarfile.REGTYPE, b'x', '')), 'absolute'),
        'tar symlink': (
            write_tar(folder / '3.tar', GOOD, ('a', tarfile.SYMTYPE, b'', '..')),
            'symbolic link',
        ),
        'tar hard link': (
            write_tar(folder / '4.tar', GOOD, ('a', tarfile.LNKTYPE, b'', GOOD[0])),
            'hard link',
        ),
        'tar device': (write_tar(folder / '5.tar', GOOD, ('a', tarfile.CHRTYPE, b'', '')), 'device'),
        'tar fifo': (write_tar(folder / '6.tar', GOOD, ('a', tarfile.FIFOTYPE, b'', '')), 'device'),
        'tar twice': (write_tar(folder / '7.tar', GOOD, GOOD), 'second file'),
        'tar bomb': (
            write_tar(folder / '8.tar', GOOD, ('zeros', tarfile.REGTYPE, bytes(5_000_000), '')),
            'bomb',
        ),
    }


def test_unsafe_archives_are_refused_with_nothing_left(tmp_path):
    (tmp_path / 'in').mkdir()
    for case, (path, message) in unsafe_archives(tmp_path / 'in').items():
        with pytest.raises(ValueError, match=message):
            unpack_archive(path, tmp_path / 'out' / 'x', progress=False)
        assert names(tmp_path / 'out') == [], case
        assert names(tmp_path) == ['in', 'out'], case


def test_limits(tmp_path):
    path = write_zip(tmp_path / 'a.zip', {f'{number}': b'some' for number in range(10)})
    for limits in (UnpackLimits(files=9), UnpackLimits(total_bytes=39), UnpackLimits(ratio=0.01)):
        with pytest.raises(ValueError, match='refused'):
            unpack_archive(path, tmp_path / 'x', limits=limits, progress=False)
    unpack_archive(path, tmp_path / 'x', limits=UnpackLimits(files=10, total_bytes=40), progress=False)


def test_damaged_archives(tmp_path):
    path = write_zip(tmp_path / 'a.zip', {'big': DATA})
    whole = path.read_bytes()
    cases = {
        'without its end': whole[:1000],
        'damaged': whole[:300_000] + b'0000' + whole[300_004:],
        'web page': b'<!DOCTYPE html><html>',
        'empty file': b'',
        'starts with': b'\x89PNG....',
    }
    for message, data in cases.items():
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            unpack_archive(path, tmp_path / 'x', progress=False)
        assert names(tmp_path) == ['a.zip']
    cut = write_tar(tmp_path / 'a.tar', ('big', tarfile.REGTYPE, DATA, ''))
    cut.write_bytes(cut.read_bytes()[:-100_000])
    with pytest.raises(ValueError, match='damaged'):
        unpack_archive(cut, tmp_path / 'x', progress=False)
    assert names(tmp_path) == ['a.tar', 'a.zip']


@pytest.mark.parametrize('error', [KeyboardInterrupt(), OSError(errno.ENOSPC, 'No space left')])
def test_interruption_and_full_disk_leave_nothing(tmp_path, monkeypatch, error):
    path = write_zip(tmp_path / 'a.zip', {'a': DATA, 'b': DATA})
    read = zipfile.ZipExtFile.read

    def failing(self, size=-1):
        if self.name == 'b':
            assert names(tmp_path / '.x.unpacking') == ['a', 'b']
            raise error
        return read(self, size)

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipExtFile, 'read', failing)
        with pytest.raises(type(error), match='disk is full' if isinstance(error, OSError) else None):
            unpack_archive(path, tmp_path / 'x', progress=False)
    assert names(tmp_path) == ['a.zip']


def test_what_a_crash_left_is_cleared(tmp_path):
    (tmp_path / '.x.unpacking').mkdir()
    (tmp_path / '.x.unpacking/half').write_bytes(b'half')
    path = write_zip(tmp_path / 'a.zip', {'a': b'a'})
    unpack_archive(path, tmp_path / 'x', progress=False)
    assert names(tmp_path) == ['a.zip', 'x']
    assert names(tmp_path / 'x') == ['a']


# ADE20K

COUNTS = dict(training=5, validation=3)
STEMS = dict(training='ADE_train_{:08d}', validation='ADE_val_{:08d}')


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def noise(*shape: int, top: int = 256, kind: str) -> bytes:
    return encoded(Image.fromarray(np.random.default_rng(1).integers(0, top, shape, dtype=np.uint8)), kind)


@functools.cache
def small_ade20k() -> dict[str, bytes]:
    files = {}
    for split, count in COUNTS.items():
        for number in range(1, count + 1):
            stem = STEMS[split].format(number)
            size = (20 + number, 30)
            files[f'ADEChallengeData2016/images/{split}/{stem}.jpg'] = noise(*size, 3, kind='JPEG')
            files[f'ADEChallengeData2016/annotations/{split}/{stem}.png'] = noise(*size, top=151, kind='PNG')
    return {**files, 'ADEChallengeData2016/objectInfo150.txt': b'Idx\tName\n'}


@pytest.fixture
def ade_zip(tmp_path):
    return write_zip(tmp_path / 'ade.zip', small_ade20k())


prepare = functools.partial(prepare_ade20k, counts=COUNTS, progress=False)


def test_ade20k_from_an_archive(tmp_path, ade_zip):
    lines = []
    root = tmp_path / 'data' / 'ade'
    folder = prepare(root, archive=ade_zip, thorough=True, report=lines.append)
    assert folder == root / 'ADEChallengeData2016'
    assert names(root) == ['ADEChallengeData2016']
    assert ade_zip.exists()
    assert verify_ade20k(folder, counts=COUNTS) == []
    assert sha256(ade_zip.read_bytes()) in lines[0]
    assert 'md5 and sha1 differ' in lines[1]
    assert '5 training and 3 validation images' in lines[2]
    prepare(root, report=lines.append)
    assert 'already' in lines[3]


def test_ade20k_wrong_checksum_of_the_users_archive(tmp_path, ade_zip):
    with pytest.raises(ChecksumError, match='Nothing was unpacked'):
        prepare(tmp_path / 'ade', archive=ade_zip, sha256='0' * 64)
    assert ade_zip.exists()
    assert not (tmp_path / 'ade').exists()


def test_ade20k_known_archive_is_recognised(tmp_path, ade_zip, monkeypatch):
    data, lines = ade_zip.read_bytes(), []
    known = {name: hashlib.new(name, data).hexdigest() for name in ('md5', 'sha1')}
    monkeypatch.setattr(ade20k_module, 'PUBLISHED', known)
    prepare(tmp_path / 'ade', archive=ade_zip, report=lines.append)
    assert lines[1] == 'Its md5 and sha1 equal those that other projects publish'


def test_ade20k_web_page_instead_of_the_archive(tmp_path, monkeypatch):
    with serving(Server(b'<html>Please log in')) as server:
        monkeypatch.setattr(ade20k_module, 'URL', server.url())
        with pytest.raises(ChecksumError, match='found a web page'):
            prepare(tmp_path / 'ade')
    assert names(tmp_path / 'ade') == []


def test_ade20k_incomplete_archive_leaves_nothing_unpacked(tmp_path):
    files = dict(small_ade20k())
    del files['ADEChallengeData2016/annotations/training/ADE_train_00000002.png']
    path = write_zip(tmp_path / 'ade.zip', files)
    with pytest.raises(ValueError, match=r'1 of 5 missing: ADE_train_00000002\.png'):
        prepare(tmp_path / 'ade', archive=path, report=lambda line: None)
    assert names(tmp_path / 'ade') == []


def test_ade20k_faults_are_listed(tmp_path, ade_zip):
    folder = prepare(tmp_path, archive=ade_zip, report=lambda line: None)
    train, val = folder / 'annotations/training', folder / 'annotations/validation'
    (train / 'ADE_train_00000001.png').unlink()
    (train / 'ADE_train_00000002.png').write_bytes(noise(22, 30, top=152, kind='PNG'))
    (train / 'ADE_train_00000003.png').write_bytes(noise(30, 23, top=151, kind='PNG'))
    (train / 'ADE_train_00000004.png').write_bytes(noise(24, 30, 3, kind='PNG'))
    (folder / 'images/validation/ADE_val_00000001.jpg').write_bytes(b'\xff\xd8 cut')
    (folder / 'images/validation/ADE_val_00000002.jpg').unlink()
    (val / 'more.png').write_bytes(b'')
    assert verify_ade20k(folder, thorough=True, counts=COUNTS) == [
        'annotations/training: 1 of 5 missing: ADE_train_00000001.png',
        'annotations/training: 1 of 4 looked at: labels above 150: ADE_train_00000002.png',
        'annotations/training: 1 of 4 looked at: another size than its image: ADE_train_00000003.png',
        'annotations/training: 1 of 4 looked at: PNG of mode RGB, expected PNG of mode L or P with labels as '
        'pixels: ADE_train_00000004.png',
        'images/validation: 1 of 3 missing: ADE_val_00000002.jpg',
        'annotations/validation: 1 not of this data set: more.png',
        'images/validation: 1 of 2 looked at: cannot be read: ADE_val_00000001.jpg',
    ]
    with pytest.raises(ValueError, match='Move it away'):
        prepare(tmp_path, report=lambda line: None)


def test_ade20k_sample_and_place(tmp_path, ade_zip, monkeypatch):
    folder = prepare(tmp_path, archive=ade_zip, report=lambda line: None)
    monkeypatch.setattr(ade20k_module, 'SAMPLE', 2)
    (folder / 'annotations/training/ADE_train_00000003.png').write_bytes(b'broken')
    assert verify_ade20k(folder, counts=COUNTS) == []
    assert 'cannot be read' in verify_ade20k(folder, thorough=True, counts=COUNTS)[0]
    (tmp_path / 'deep').mkdir()
    folder.rename(tmp_path / 'deep/ADEChallengeData2016')
    assert 'one level too deep' in verify_ade20k(tmp_path / 'deep', counts=COUNTS)[0]
    assert 'there is no folder' in verify_ade20k(tmp_path / 'nowhere', counts=COUNTS)[0]


# ImageNet

CLASSES = ['n00000001', 'n00000002', 'n00000003']
check = functools.partial(
    check_imagenet, classes=3, counts=dict(train=12, val=6), per_class=dict(train=(3, 5), val=(2, 2))
)


@pytest.fixture
def imagenet(tmp_path):
    root = tmp_path / 'imagenet'
    for split, count in (('train', 4), ('val', 2)):
        for wnid in CLASSES:
            (root / split / wnid).mkdir(parents=True)
            for number in range(count):
                (root / split / wnid / f'{wnid}_{number}.JPEG').touch()
    return root


def only(problems: list[str]) -> str:
    assert len(problems) == 1, problems
    return problems[0]


def test_imagenet_complete(imagenet):
    assert check(imagenet) == []
    assert len(check_imagenet(imagenet)) == 4  # classes and images of both splits


def test_imagenet_missing_images_and_classes(imagenet):
    for path in sorted((imagenet / 'train/n00000001').iterdir())[:2]:
        path.unlink()
    for path in (imagenet / 'train/n00000002').iterdir():
        path.unlink()
    line = only(check(imagenet))
    assert '6 images, expected 12: 6 missing' in line
    assert '1 empty classes: n00000002' in line
    assert 'fewer than 3: n00000001 (2)' in line
    shutil.rmtree(imagenet / 'val/n00000003')
    problems = '\n'.join(check(imagenet))
    assert 'val: 2 class folders, expected 3: 1 missing' in problems
    assert '1 classes are in train only: n00000003' in problems
    (imagenet / 'val/n00000001/more.JPEG').touch()
    assert 'more than 2: n00000001 (3)' in '\n'.join(check(imagenet))


def test_imagenet_wrong_root(imagenet, tmp_path):
    assert 'does not exist' in only(check(tmp_path / 'nowhere'))
    assert 'itself holds class folders' in only(check(imagenet / 'train'))
    assert f'give {imagenet} instead' in only(check(tmp_path))
    kaggle = tmp_path / 'kaggle/ILSVRC/Data'
    kaggle.mkdir(parents=True)
    imagenet.rename(kaggle / 'CLS-LOC')
    assert f'give {kaggle / "CLS-LOC"} instead' in only(check(tmp_path / 'kaggle'))
    (tmp_path / 'empty').mkdir()
    assert 'found nothing' in only(check(tmp_path / 'empty'))
    (tmp_path / 'empty/file').touch()
    assert 'is a file' in only(check(tmp_path / 'empty/file'))


def test_imagenet_archives(imagenet, tmp_path):
    (tmp_path / 'packed').mkdir()
    (tmp_path / 'packed/ILSVRC2012_img_train.tar').touch()
    line = only(check(tmp_path / 'packed'))
    assert 'not unpacked: ILSVRC2012_img_train.tar' in line and 'torchvision' in line
    shutil.rmtree(imagenet / 'val')
    assert 'val is missing: download' in only(check(imagenet))
    (imagenet / 'ILSVRC2012_img_val.tar').touch()
    assert 'ILSVRC2012_img_val.tar is there, not unpacked' in only(check(imagenet))
    shutil.rmtree(imagenet / 'train')
    (imagenet / 'train').mkdir()
    for wnid in CLASSES:
        (imagenet / f'train/{wnid}.tar').touch()
    line = check(imagenet)[0]
    assert '3 archives that are not unpacked: n00000001.tar' in line and 'for f in n*.tar' in line


def test_imagenet_unpacking_advice_works(tmp_path):
    folder = tmp_path / 'root' / 'train'
    folder.mkdir(parents=True)
    (tmp_path / 'root/val').mkdir()
    for wnid in CLASSES:
        write_tar(folder / f'{wnid}.tar', (f'{wnid}_1.JPEG', tarfile.REGTYPE, b'x', ''), mode='w')
    command = check(tmp_path / 'root')[0].partition('own folder: ')[2]
    subprocess.run(['bash', '-c', command], check=True, timeout=10)
    assert [path.relative_to(folder).as_posix() for path in sorted(folder.rglob('*.JPEG'))] == [
        f'{wnid}/{wnid}_1.JPEG' for wnid in CLASSES
    ]
    assert not list(folder.glob('*.tar'))


def test_imagenet_flat_and_nested(imagenet):
    for path in list((imagenet / 'val').rglob('*.JPEG')):
        path.rename(imagenet / 'val' / f'ILSVRC2012_val_{path.name}')
    for wnid in CLASSES:
        (imagenet / 'val' / wnid).rmdir()
    line = only(check(imagenet))
    assert 'val is flat: 6 images' in line and 'devkit' in line
    shutil.rmtree(imagenet / 'val')
    assert 'val is missing' in only(check(imagenet))
    (imagenet / 'validation').mkdir()
    assert 'rename it to val' in only(check(imagenet))
    (imagenet / 'train').rename(imagenet / 'inner')
    for split in ('train', 'val'):
        shutil.copytree(imagenet / 'inner', imagenet / split / split)
    first, second = check(imagenet)
    assert 'train/train holds class folders one level too deep' in first
    assert 'val/val holds class folders one level too deep' in second


def test_imagenet_strange_folders(imagenet):
    (imagenet / 'train/tench').mkdir()
    assert 'not named by a wnid' in only(check(imagenet)) and 'tench' in only(check(imagenet))
    (imagenet / 'train/tench').rmdir()
    for wnid in CLASSES:
        folder = imagenet / 'train' / wnid
        paths = list(folder.iterdir())
        (folder / 'images').mkdir()
        for path in paths:
            path.rename(folder / 'images' / path.name)
    first, second = check(imagenet)
    assert '3 class folders hold another folder' in first and 'n00000001/images' in first
    assert '0 images, expected 12' in second


# Command lines


def call(tool: str, *arguments) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / tool), *map(str, arguments)],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'COLUMNS': '300'},
        capture_output=True,
        text=True,
        timeout=60,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def run_here(monkeypatch, tool: str, *arguments) -> None:
    """As :func:`call`, without the seconds that importing the package takes."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')


def test_command_line_ade20k(tmp_path, ade_zip, monkeypatch, capsys):
    data = ade_zip.read_bytes()
    root = tmp_path / 'data'
    with serving(Server(data)) as server:
        server.statuses, server.cuts = [404], [len(data) // 2]
        arguments = ('--root', root, '--mirror', server.url('gone'), '--mirror', server.url('ade.zip'))
        output = call('prepare_ade20k.py', *arguments, '--sha256', sha256(data), '--expected', 5, 3)
        assert server.requests[2]['Range'] == f'bytes={len(data) // 2}-'
    assert '5 training and 3 validation images' in output
    assert names(root) == ['ADEChallengeData2016', 'ADEChallengeData2016.zip']
    with pytest.raises(SystemExit, match='1'):
        run_here(monkeypatch, 'prepare_ade20k.py', '--root', root, '--check-only')
    assert '20,205 of 20,210 missing' in capsys.readouterr().err
    run_here(monkeypatch, 'prepare_ade20k.py', '--root', root, '--check-only', '--expected', 5, 3)
    assert 'is complete' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='1'):
        run_here(monkeypatch, 'prepare_ade20k.py', '--root', tmp_path / 'x', '--archive', tmp_path / 'no.zip')
    assert capsys.readouterr().err == f'prepare_ade20k.py: there is no archive {tmp_path / "no.zip"}\n'
    with pytest.raises(SystemExit, match='1'):
        run_here(monkeypatch, 'prepare_ade20k.py', '--root', ade_zip)
    assert capsys.readouterr().err.startswith(
        f'prepare_ade20k.py: {ade_zip} is a file: expected the folder in'
    )


def test_command_line_imagenet(imagenet, monkeypatch, capsys):
    run_here(monkeypatch, 'check_imagenet.py', imagenet, '--expected', 3, 12, 6)
    assert 'is complete: 3 classes, 12 train and 6 val images' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='1'):
        run_here(monkeypatch, 'check_imagenet.py', imagenet)
    assert '3 class folders, expected 1,000: 997 missing' in capsys.readouterr().err
