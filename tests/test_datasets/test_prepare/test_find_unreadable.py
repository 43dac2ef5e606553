"""Bad images are found before training, by what training reads them with."""

import os
import runpy
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvp_mm.datasets import UnlabelledImages
from mvp_mm.datasets.prepare.find_unreadable import ODDITIES, check_dataset, check_image

TOOL = Path(__file__).parents[3] / 'tools/check_dataset.py'


def photograph(path, mode='RGB', **more):
    """Smooth random pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((80, 80)).convert(mode).save(path, **more)
    return path


def png_of(path, side):
    """A black square of any size, in few bytes."""
    from struct import pack

    def chunk(kind, data):
        return pack('>I', len(data)) + kind + data + pack('>I', zlib.crc32(kind + data))

    header = chunk(b'IHDR', pack('>IIBBBBB', side, side, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes((side + 7) // 8 + 1) * side)
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', rows) + chunk(b'IEND', b''))
    return path


@pytest.fixture
def folder(tmp_path):
    """Images of every kind: the bad ones, and why they are; the odd ones, and what is odd."""
    root = tmp_path / 'images'
    root.mkdir()
    good = photograph(root / 'good.jpg')
    (root / 'truncated.jpg').write_bytes(good.read_bytes()[:700])
    (root / 'empty.png').write_bytes(b'')
    (root / 'text.jpg').write_text('no image')
    (root / 'dangling.jpg').symlink_to(root / 'gone.jpg')
    (root / 'folder.jpg').mkdir()
    png_of(root / 'bomb.png', 14000)
    bad = {
        'truncated.jpg': 'truncated',
        'empty.png': 'cannot identify',
        'text.jpg': 'cannot identify',
        'dangling.jpg': 'No such file',
        'bomb.png': 'could be decompression bomb',
    }
    shutil.copy(photograph(root / 'grey.png', 'L'), root / 'named.jpeg')
    photograph(root / 'print.jpg', 'CMYK')
    photograph(root / 'alpha.png', 'RGBA')
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(root / 'deep.png')
    frames = [Image.new('L', (9, 9), grey) for grey in (9, 200)]
    frames[0].save(root / 'moving.gif', save_all=True, append_images=frames[1:])
    (root / 'notes.txt').write_text('')
    odd = {
        'named.jpeg': ('not the format of its name',),
        'print.jpg': ('CMYK',),
        'alpha.png': ('alpha',),
        'deep.png': ('more than 8 bits',),
        'moving.gif': ('animated',),
    }
    return root, bad, odd


def test_every_kind(folder):
    root, bad, odd = folder
    dataset = UnlabelledImages(root)
    found = check_dataset(dataset, workers=2)
    assert [sample.path for sample in found] == [dataset.get_data_info(i)['img_path'] for i in range(12)]
    faults = {Path(sample.path).name: sample.fault for sample in found if sample.fault}
    assert faults.keys() == bad.keys()
    for name, words in bad.items():
        assert words in faults[name] and '\n' not in faults[name]
    assert {Path(each.path).name: each.oddities for each in found if each.oddities} == odd
    assert set().union(*odd.values()) == set(ODDITIES) - {'huge'}
    assert dict(dataset.left_out) == {'.txt': 1}


def test_huge(tmp_path, monkeypatch):
    path = str(photograph(tmp_path / 'a.png'))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 4000)
    assert check_image(path).oddities == ('huge',)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 3000)
    assert 'decompression bomb' in check_image(path).fault


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_without_permission(tmp_path):
    photograph(tmp_path / 'a.jpg').chmod(0)
    assert 'Permission denied' in check_image(str(tmp_path / 'a.jpg')).fault


def test_a_folder_that_cannot_be_listed(folder, monkeypatch):
    root, *_ = folder
    (root / 'closed').mkdir()
    original = os.scandir

    def scandir(path):
        if str(path).endswith('closed'):
            raise PermissionError(13, 'Permission denied', str(path))
        return original(path)

    monkeypatch.setattr(os, 'scandir', scandir)
    assert set(UnlabelledImages(root).unreadable_folders) == {str(root / 'closed')}


def test_a_dataset_without_files():
    from mvp_mm.datasets import SceneImages

    with pytest.raises(ValueError, match='SceneImages reads no image files'):
        check_dataset(SceneImages(count=2))


def test_the_command(folder, tmp_path, monkeypatch, capsys):
    root, bad, _ = folder
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['check_dataset.py', str(root), '--workers', '1'])
    with pytest.raises(SystemExit, match='1'):
        runpy.run_path(str(TOOL), run_name='__main__')
    printed = capsys.readouterr()
    assert '5 of 12 cannot be read; they are listed in bad_images.txt' in printed.err
    lines = (tmp_path / 'bad_images.txt').read_text().splitlines()
    assert [Path(line.split('\t')[0]).name for line in lines] == sorted(bad)
    assert '1 images: CMYK (converted to RGB)' in printed.out and '1 *.txt' in printed.out


@pytest.mark.slow
def test_the_command_reads_both_splits(tmp_path, monkeypatch, capsys):
    for split in ('train', 'val'):
        (tmp_path / 'labelled' / split / 'a').mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(tmp_path / f'labelled/{split}/a/0.jpg')
    (tmp_path / 'labelled/val/a/1.jpg').write_bytes(b'')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['check_dataset.py', 'labelled', '--workers', '1'])
    with pytest.raises(SystemExit, match='1'):
        runpy.run_path(str(TOOL), run_name='__main__')
    assert '1 of 3 cannot be read' in capsys.readouterr().err
