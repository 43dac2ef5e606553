import functools
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from mvp_mm.datasets.prepare import check_imagenet

TOOL = Path(__file__).parents[3] / 'tools/check_imagenet.py'
CLASSES = ['n00000001', 'n00000002', 'n00000003']
check = functools.partial(check_imagenet, classes=3, counts=dict(train=12, val=6))


@pytest.fixture
def imagenet(tmp_path):
    root = tmp_path / 'imagenet'
    for split, count in (('train', 4), ('val', 2)):
        for wnid in CLASSES:
            (root / split / wnid).mkdir(parents=True)
            for number in range(count):
                (root / split / wnid / f'{wnid}_{number}.JPEG').touch()
    return root


def test_complete(imagenet):
    assert check(imagenet) == []
    assert len(check_imagenet(imagenet)) == 4  # classes and images of both splits
    (imagenet / 'train/n00000001/n00000001_0.JPEG').rename(imagenet / 'train/n00000001/.hidden.JPEG')
    assert len(check(imagenet)) == 1


def test_counts(imagenet):
    for path in sorted((imagenet / 'train/n00000001').iterdir())[:3]:
        path.unlink()
    assert check(imagenet) == [
        'train: 9 images, expected 12: 3 missing; the smallest class is n00000001 with 1'
    ]
    shutil.rmtree(imagenet / 'val/n00000003')
    (imagenet / 'val/n00000001/more.JPEG').touch()
    assert check(imagenet)[1:] == [
        'val: 2 class folders, expected 3: 1 missing',
        'val: 5 images, expected 6: 1 missing; the smallest class is n00000002 with 2',
        '1 classes are in train only: n00000003',
    ]


def test_places(imagenet, tmp_path):
    assert 'is no folder' in check(tmp_path / 'nowhere')[0]
    (line,) = check(imagenet / 'train')
    assert 'has neither train nor val' in line and 'found n00000001, n00000002, n00000003' in line
    (imagenet / 'train/tench').mkdir()
    (imagenet / 'train/n00000009.tar').touch()
    (line,) = check(imagenet)
    assert '2 others than folders named by a wnid' in line and 'n00000009.tar, tench' in line
    shutil.rmtree(imagenet / 'train')
    (line,) = check(imagenet)
    assert 'train is missing' in line and 'torchvision.datasets.ImageNet' in line


def test_command_line(imagenet, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['check_imagenet.py', *map(str, arguments)])
        runpy.run_path(str(TOOL), run_name='__main__')

    run(imagenet, '--expected', 3, 12, 6)
    assert 'is complete: 3 classes, 12 train and 6 val images' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='1'):
        run(imagenet)
    assert '3 class folders, expected 1,000: 997 missing' in capsys.readouterr().err
