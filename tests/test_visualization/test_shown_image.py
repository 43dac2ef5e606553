import numpy as np
import pytest
import torch
from PIL import Image

from mvp_mm.datasets.scenes import SceneCollection
from mvp_mm.visualization.shown_image import Point, ShownImage, patch_grid, read_image, resized


@pytest.fixture
def photograph(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    return str(tmp_path / 'a.png'), pixels


def test_files(photograph):
    path, pixels = photograph
    crop = read_image(path)
    assert crop.offset == (20, 0) and np.array_equal(crop.pixels, pixels[:, 20:80])
    whole = read_image(path, fit='whole')
    assert whole.offset == (0, 0) and np.array_equal(whole.pixels, pixels)


def test_scenes():
    image = read_image('scenes:val:7', scene_side=32)
    assert np.array_equal(image.pixels, SceneCollection('val', 8, 32)[7][0])


@pytest.mark.parametrize(
    'source,message',
    [
        ('scenes:val', 'names no scene: expected scenes:SPLIT:INDEX'),
        ('scenes:val:x', 'names no scene'),
        ('scenes:none:1', "split='none' is none of train, val, test"),
        ('gone.png', 'gone.png cannot be read as an image .*No such file'),
    ],
)
def test_what_cannot_be_read(source, message):
    with pytest.raises(ValueError, match=message):
        read_image(source)


@pytest.mark.parametrize(
    'shape,side,grid',
    [
        ((224, 224), 224, (14, 14)),
        ((480, 640), 224, (14, 19)),
        ((640, 480), 224, (19, 14)),
        ((50, 49), 64, (4, 4)),
    ],
)
def test_patch_grid(shape, side, grid):
    assert patch_grid(*shape, side, 16) == grid


def test_patch_grid_limits():
    with pytest.raises(ValueError, match='a side of 8 pixels holds no patch of 16'):
        patch_grid(100, 100, 8, 16)
    with pytest.raises(ValueError, match='14x1400 patches, more than 4096'):
        patch_grid(20, 2000, 224, 16)


def test_resized():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    same = resized(pixels, (2, 3), 8)
    assert same.shape == (1, 3, 16, 24) and np.array_equal(same[0].permute(1, 2, 0), pixels)
    even = resized(np.full((30, 40, 3), 77, np.uint8), (2, 3), 8)
    assert even.shape == (1, 3, 16, 24) and torch.equal(even, torch.full_like(even, 77))


def test_points():
    image = ShownImage('a', np.zeros((60, 60, 3), np.uint8), offset=(20, 0))
    assert Point.parse('0.0,0.99').patch(image, (4, 6)) == (3, 0)
    assert Point.parse('1.0,1.0').patch(image, (4, 6)) == (3, 5)
    assert Point.parse('20,0').patch(image, (4, 6)) == (0, 0)
    assert Point.parse('79,59').patch(image, (4, 6)) == (3, 5)
    assert Point.parse('49,15').patch(image, (4, 6)) == (1, 2)
    assert Point.parse('50,14').patch(image, (4, 6)) == (0, 3)
    with pytest.raises(
        ValueError, match='19,0 is not in the shown part of a, x from 20 to 79, y from 0 to 59'
    ):
        Point.parse('19,0').patch(image, (4, 6))


@pytest.mark.parametrize('text', ['5', '1;2', 'a,b', '0.5,1.5', '-1,2', '1,2,3', 'nan,0', '0.1,nan', ''])
def test_no_points(text):
    with pytest.raises(ValueError, match='is no place in an image: give X,Y'):
        Point.parse(text)
