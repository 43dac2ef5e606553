import errno
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mvp_mm.datasets.prepare import unpack_archive

DATA = np.random.default_rng(0).bytes(600_000)


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


needs_filter = pytest.mark.skipif(
    not hasattr(tarfile, 'data_filter'), reason='this Python has no safe way to unpack a tar file'
)
GOOD = ('top/good.txt', tarfile.REGTYPE, b'good', '')


@needs_filter
@pytest.mark.parametrize('kind', ['zip', 'tar', 'tar.gz', 'tar.xz'])
def test_unpacks(tmp_path, names, kind):
    path = tmp_path / f'a.{kind}'
    if kind == 'zip':
        write_zip(path, {'top/': b'', 'top/good.txt': b'good', 'top/sub/b': DATA, 'other': b''})
    else:
        folder = ('./top', tarfile.DIRTYPE, b'', '')
        nested = ('./top/sub/b', tarfile.REGTYPE, DATA, '')
        write_tar(path, folder, GOOD, nested, mode='w:' + kind.partition('.')[2])
    unpack_archive(path, tmp_path / 'out' / 'x', inside='top', progress=False)
    assert names(tmp_path / 'out') == ['x']
    assert names(tmp_path / 'out/x') == ['good.txt', 'sub']
    assert (tmp_path / 'out/x/sub/b').read_bytes() == DATA
    with pytest.raises(FileExistsError):
        unpack_archive(path, tmp_path / 'out' / 'x', progress=False)


def unsafe_archives(folder: Path) -> dict[Path, str]:
    """Archives beside the reason why they are refused."""
    good, tar = {'top/good.txt': b'good'}, tarfile
    zips = {
        r'\.\.': {'top/../../evil': b''},
        'an absolute': {'/absolute/evil': b''},
        'absolute': {'C:/evil': b''},
        'with ..': {'..\\evil': b''},
        'bomb': {'zeros': bytes(5_000_000)},
        'damaged': {'top/good.txt/x': b''},
    }
    archives = {
        write_zip(folder / f'{index}.zip', good | bad): reason
        for index, (reason, bad) in enumerate(zips.items())
    }
    for name, mode in (('link', 0o120777), ('device', 0o020666)):
        path = write_zip(folder / f'{name}.zip', {**good, 'top/x': b'/etc'}, {'top/x': mode})
        archives[path] = 'a link or a device'
    tars = {
        r'\.\.': ('../evil', tar.REGTYPE, b'x', ''),
        'absolute': ('/evil', tar.REGTYPE, b'x', ''),
        'a link': ('a', tar.SYMTYPE, b'', '..'),
        'link or': ('a', tar.LNKTYPE, b'', GOOD[0]),
        'or a device': ('a', tar.CHRTYPE, b'', ''),
        'bomb': ('zeros', tar.REGTYPE, bytes(5_000_000), ''),
    }
    for index, (reason, bad) in enumerate(tars.items()):
        archives[write_tar(folder / f'{index}.tar', GOOD, bad)] = reason
    return archives


@needs_filter
def test_unsafe_archives_are_refused_with_nothing_left(tmp_path, names):
    (tmp_path / 'in').mkdir()
    for path, reason in unsafe_archives(tmp_path / 'in').items():
        with pytest.raises(ValueError, match=reason):
            unpack_archive(path, tmp_path / 'out' / 'x', progress=False)
        assert names(tmp_path / 'out') == [], path
        assert names(tmp_path) == ['in', 'out'], path


def test_an_archive_may_not_be_larger_than_told(tmp_path, names):
    path = write_zip(tmp_path / 'a.zip', {f'{number}': DATA[:5000] for number in range(10)})
    with pytest.raises(ValueError, match='50,000 or more, expected at most 49,999'):
        unpack_archive(path, tmp_path / 'x', max_bytes=49_999, progress=False)
    unpack_archive(path, tmp_path / 'x', max_bytes=50_000, progress=False)
    empty = write_zip(tmp_path / 'b.zip', {f'{number}': b'' for number in range(10)})
    with pytest.raises(ValueError, match='40,960 or more'):  # each takes a block of the disk
        unpack_archive(empty, tmp_path / 'y', max_bytes=40_959, progress=False)
    assert names(tmp_path) == ['a.zip', 'b.zip', 'x']


@needs_filter
def test_damaged_archives(tmp_path, names):
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
def test_interruption_and_full_disk_leave_nothing(tmp_path, names, monkeypatch, error):
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


def test_too_small_a_disk_is_noticed_first(tmp_path, names, monkeypatch):
    path = write_zip(tmp_path / 'a.zip', {'a': DATA})
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(1000, 500, 500))
    with pytest.raises(OSError, match='disk is full') as caught:
        unpack_archive(path, tmp_path / 'x', progress=False)
    assert caught.value.errno == errno.ENOSPC and names(tmp_path) == ['a.zip']


def test_what_a_crash_left_is_cleared(tmp_path, names):
    (tmp_path / '.x.unpacking').mkdir()
    (tmp_path / '.x.unpacking/half').write_bytes(b'half')
    path = write_zip(tmp_path / 'a.zip', {'a': b'a'})
    unpack_archive(path, tmp_path / 'x', progress=False)
    assert names(tmp_path) == ['a.zip', 'x'] and names(tmp_path / 'x') == ['a']


def test_a_python_that_cannot_unpack_safely_says_so(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, 'data_filter', raising=False)
    path = write_tar(tmp_path / 'a.tar.gz', GOOD)
    with pytest.raises(ValueError, match=r'this Python cannot unpack .* safely: use 3\.10\.12, 3\.11\.4'):
        unpack_archive(path, tmp_path / 'out', progress=False)
    assert not (tmp_path / 'out').exists()
