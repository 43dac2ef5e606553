import functools
import hashlib
import io
import runpy
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvp_mm.datasets.prepare import ChecksumError, prepare_ade20k, verify_ade20k
from mvp_mm.datasets.prepare import ade20k as ade20k_module

TOOL = Path(__file__).parents[3] / 'tools/prepare_ade20k.py'
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


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def ade_zip(tmp_path):
    return write_zip(tmp_path / 'ade.zip', small_ade20k())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


prepare = functools.partial(prepare_ade20k, counts=COUNTS, progress=False)


def test_ade20k_from_an_archive(tmp_path, ade_zip, names):
    lines = []
    root = tmp_path / 'data' / 'ade'
    folder = prepare(root, archive=ade_zip, thorough=True, report=lines.append)
    assert folder == root / 'ADEChallengeData2016'
    assert names(root) == ['ADEChallengeData2016']
    assert ade_zip.exists()
    assert verify_ade20k(folder, counts=COUNTS) == []
    assert sha256(ade_zip) in lines[0]
    assert 'md5 and sha1 differ' in lines[1]
    assert '5 training and 3 validation images' in lines[2]
    prepare(root, report=lines.append)
    assert 'nothing to download' in lines[3]


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
    assert lines[1].startswith('Its md5 and sha1 equal those that other projects publish')


def test_ade20k_web_page_instead_of_the_archive(tmp_path, monkeypatch, serve, names):
    monkeypatch.setattr(ade20k_module, 'URL', serve(b'<html>Please log in').url())
    with pytest.raises(ChecksumError, match='found a web page'):
        prepare(tmp_path / 'ade')
    assert names(tmp_path / 'ade') == []


def test_ade20k_incomplete_archive_leaves_nothing_unpacked(tmp_path, names):
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


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, 'argv', ['prepare_ade20k.py', *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name='__main__')


def test_command_line(tmp_path, ade_zip, monkeypatch, capsys, serve, names):
    root, server = tmp_path / 'data', serve(ade_zip.read_bytes())
    server.statuses, server.cuts = [404], [len(server.data) // 2]
    mirrors = ('--root', root, '--mirror', server.url('gone'), '--mirror', server.url('ade.zip'))
    run(monkeypatch, *mirrors, '--sha256', sha256(ade_zip), '--expected', 5, 3)
    assert '5 training and 3 validation images' in capsys.readouterr().out
    assert len(server.asked) == 3
    assert names(root) == ['ADEChallengeData2016', 'ADEChallengeData2016.zip']
    with pytest.raises(SystemExit, match='1'):
        run(monkeypatch, '--root', root, '--check-only')
    assert '20,205 of 20,210 missing' in capsys.readouterr().err
    run(monkeypatch, '--root', root, '--check-only', '--expected', 5, 3)
    assert 'is complete' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='1'):
        run(monkeypatch, '--root', tmp_path / 'x', '--archive', tmp_path / 'no.zip')
    assert capsys.readouterr().err == f'prepare_ade20k.py: there is no archive {tmp_path / "no.zip"}\n'
    with pytest.raises(SystemExit, match='1'):
        run(monkeypatch, '--root', ade_zip)
    assert capsys.readouterr().err.startswith(
        f'prepare_ade20k.py: {ade_zip} is a file: expected the folder in'
    )
