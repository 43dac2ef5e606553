"""tools/segment.py: its files are checked before a model is built, and no picture overwrites another."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mvp_mm
from mvp_mm.evaluation import segment
from mvp_mm.evaluation.picture_files import image_files, picture_files, usable_device

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/upernet/vittiny_scenes.py'


@pytest.fixture
def images(tmp_path):
    """Images of one stem in two folders and with two endings, and a text."""
    for name in ('a/x.jpg', 'b/x.jpg', 'b/x.png', 'b/deep/y.jpg'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / 'b/notes.md').write_text('no image')
    (tmp_path / 'empty').mkdir()
    return tmp_path


def test_files_and_folders(images):
    found = image_files([images / 'b', images / 'a/x.jpg', images / 'a' / '..' / 'a' / 'x.jpg'])
    names = [str(path.relative_to(images)) for path in found]
    assert names == ['b/deep/y.jpg', 'b/x.jpg', 'b/x.png', 'a/x.jpg']


def test_no_picture_overwrites_another(images):
    out = images / 'out'
    alone = picture_files([images / 'a/x.jpg', images / 'b/deep/y.jpg'], out)
    assert alone == [out / 'x.png', out / 'y.png']
    several = picture_files(image_files([images / 'a', images / 'b']), out)
    assert [str(path.relative_to(out)) for path in several] == [
        'a/x.jpg.png',
        'b/deep/y.jpg.png',
        'b/x.jpg.png',
        'b/x.png.png',
    ]


def test_device():
    assert usable_device('cpu') == 'cpu'
    with pytest.raises(ValueError, match='there is no device nonsense here'):
        usable_device('nonsense')
    with pytest.raises(ValueError, match='there is no device cuda:99 here .*: leave the option out'):
        usable_device('cuda:99')


def tool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['segment.py', *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools/segment.py'), run_name='__main__')


def test_pictures_of_a_folder(images, monkeypatch, capsys):
    model = mvp_mm.get_model('upernet_vittiny_scenes')
    torch.save(dict(state_dict=model.state_dict()), images / 'model.pth')
    common = ('--config', CONFIG, '--checkpoint', images / 'model.pth', '--out', images / 'out')
    tool(monkeypatch, images / 'b', *common, '--device', 'cpu')
    assert '3 pictures in' in capsys.readouterr().out
    assert len(list((images / 'out').rglob('*.png'))) == 3


@pytest.mark.parametrize(
    'arguments,message',
    [
        (['gone.jpg'], 'there is no image gone.jpg'),
        (['empty'], 'empty has no image in it'),
        (['b/notes.md'], r'b/notes.md is no image \(UnidentifiedImageError'),
        (['a', '--opacity', '5'], '--opacity 5: expected a number from 0 to 1'),
        (['a', '--opacity', 'nan'], '--opacity nan: expected'),
        (['a', '--out', 'b/notes.md'], 'b/notes.md is a file: expected a folder'),
        (['a', '--device', 'cuda:99'], 'there is no device cuda:99'),
        (['a', '--checkpoint', 'gone.pth'], 'there is no checkpoint gone.pth'),
        (['a', '--config', 'gone.py'], 'there is no config file gone.py'),
        (['a', '--config', str(ROOT / 'configs/mvp/vittiny_debug.py')], 'is no segmentation config'),
    ],
)
def test_errors_come_before_the_model(arguments, message, images, monkeypatch):
    def built(*args, **kwargs):
        raise AssertionError('a model was built')

    monkeypatch.setattr(segment, 'build_from_config', built)
    monkeypatch.chdir(images)
    Path('model.pth').touch()
    common = ['--config', CONFIG, '--checkpoint', 'model.pth', '--out', 'out']
    with pytest.raises(SystemExit, match=rf'^\nERROR: [^\n]*{message}[^\n]*\n[^\n]*$'):
        tool(monkeypatch, *common, *arguments)


def test_no_picture_replaces_an_image(images):
    with pytest.raises(ValueError, match='replace the image .*x.png: choose another folder'):
        picture_files([images / 'b/x.png'], images / 'a/../b')
    assert picture_files([images / 'a/x.jpg'], images / 'a') == [images / 'a/x.png']
