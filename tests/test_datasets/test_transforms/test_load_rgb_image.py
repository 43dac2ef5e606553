import os
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from mvp_mm.datasets import LoadRGBImage, UnreadableImageError
from mvp_mm.datasets.transforms.decode_image import BACKGROUND

# Red, green / blue, white: four 16x16 squares, which JPEG keeps inside and blurs at their borders.
CORNERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
SQUARES = CORNERS.repeat(16, 0).repeat(16, 1)


def read(path):
    results = LoadRGBImage()(dict(img_path=str(path)))
    image = results['img']
    assert image.mode == 'RGB'
    assert results['img_shape'] == results['ori_shape'] == (image.height, image.width)
    return np.asarray(image)


def corners(pixels):
    """The four colours in the middle of the squares."""
    return pixels[8::16, 8::16].astype(int)


def noise(path, **options):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize(
    ('name', 'options', 'tolerance'),
    [
        ('a.png', {}, 0),
        ('a.bmp', {}, 0),
        ('a.ppm', {}, 0),
        ('a.tif', {}, 0),
        ('a.webp', dict(lossless=True), 0),
        ('b.webp', dict(quality=95), 12),
        ('a.jpg', dict(quality=95, subsampling=0), 4),
        ('b.jpg', dict(quality=95, progressive=True), 4),
        ('a.gif', {}, 0),
    ],
)
def test_formats(tmp_path, name, options, tolerance):
    Image.fromarray(SQUARES).save(tmp_path / name, **options)
    assert np.abs(corners(read(tmp_path / name)) - CORNERS).max() <= tolerance


def test_the_name_does_not_decide(tmp_path):
    Image.fromarray(SQUARES).save(tmp_path / 'a.jpg', format='PNG')
    assert (read(tmp_path / 'a.jpg') == SQUARES).all()


def test_greyscale(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / 'a.png')
    assert (read(tmp_path / 'a.png') == grey[:, :, None]).all()
    Image.fromarray(grey).save(tmp_path / 'a.jpg', quality=100)
    pixels = read(tmp_path / 'a.jpg').astype(int)
    assert (pixels == pixels[:, :, :1]).all()
    assert np.abs(pixels[:, :, 0] - grey).max() <= 2


def test_one_bit(tmp_path):
    bits = np.eye(8, dtype=bool)
    Image.fromarray(bits).save(tmp_path / 'a.png')
    with Image.open(tmp_path / 'a.png') as image:
        assert image.mode == '1'
    assert (read(tmp_path / 'a.png') == bits[:, :, None] * np.uint8(255)).all()


def test_cmyk_jpeg(tmp_path):
    inks = {'cyan': (255, 0, 0, 0), 'red': (0, 255, 255, 0), 'black': (0, 0, 0, 255), 'white': (0, 0, 0, 0)}
    expected = {'cyan': (0, 255, 255), 'red': (255, 0, 0), 'black': (0, 0, 0), 'white': (255, 255, 255)}
    for name, ink in inks.items():
        Image.new('CMYK', (16, 16), ink).save(tmp_path / f'{name}.jpg', quality=95)
        assert np.abs(read(tmp_path / f'{name}.jpg')[8, 8].astype(int) - expected[name]).max() <= 4


def test_palette(tmp_path):
    image = Image.new('P', (2, 1))
    image.putpalette([255, 0, 0, 10, 20, 30])
    image.putdata([0, 1])
    image.save(tmp_path / 'opaque.png')
    assert read(tmp_path / 'opaque.png').tolist() == [[[255, 0, 0], [10, 20, 30]]]
    image.save(tmp_path / 'index.png', transparency=0)
    assert read(tmp_path / 'index.png').tolist() == [[list(BACKGROUND), [10, 20, 30]]]
    image.save(tmp_path / 'alpha.png', transparency=bytes([255, 0]))
    assert read(tmp_path / 'alpha.png').tolist() == [[[255, 0, 0], list(BACKGROUND)]]


@pytest.mark.parametrize('name', ['a.png', 'a.webp'])
def test_rgba(tmp_path, name):
    image = Image.new('RGBA', (3, 1))
    image.putdata([(200, 100, 50, 255), (200, 100, 50, 0), (200, 100, 50, 128)])
    image.save(tmp_path / name, **(dict(lossless=True, exact=True) if name == 'a.webp' else {}))
    opaque, clear, half = read(tmp_path / name)[0].astype(int)
    assert opaque.tolist() == [200, 100, 50]
    assert clear.tolist() == list(BACKGROUND)
    share = 128 / 255
    assert np.abs(half - share * opaque - (1 - share) * clear).max() <= 1


def test_grey_with_alpha(tmp_path):
    image = Image.new('LA', (2, 1))
    image.putdata([(90, 255), (90, 0)])
    image.save(tmp_path / 'a.png')
    assert read(tmp_path / 'a.png').tolist() == [[[90, 90, 90], list(BACKGROUND)]]


def test_16_bit_grey_is_scaled(tmp_path):
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    for name in ('a.png', 'a.tif'):
        Image.fromarray(values).save(tmp_path / name)
        assert read(tmp_path / name)[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ([0.0, 0.2, 1.0], [0, 51, 255]),
        ([0.0, 51.0, 255.0], [0, 51, 255]),
        ([0.0, 25700.0, 65535.0], [0, 100, 255]),
        ([-1.0, 1e5, 2e5], [0, 128, 255]),
    ],
)
def test_float_tiff(tmp_path, values, expected):
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / 'a.tif')
    assert read(tmp_path / 'a.tif')[0, :, 0].tolist() == expected


# How an upright image is stored, from the EXIF standard: which side row 0 and column 0 show.
STORED = {
    1: lambda upright: upright,  # top, left
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.swapaxes(0, 1),  # left, top
    6: lambda upright: upright.swapaxes(0, 1)[::-1],  # right, top
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],  # left, bottom
}


@pytest.mark.parametrize('tag', STORED)
def test_exif_orientation(tmp_path, tag):
    upright = np.concatenate([SQUARES, np.full((32, 16, 3), 90, np.uint8)], axis=1)
    exif = Image.Exif()
    exif[0x0112] = tag
    stored = Image.fromarray(np.ascontiguousarray(STORED[tag](upright)))
    stored.save(tmp_path / 'a.png', exif=exif)
    assert (read(tmp_path / 'a.png') == upright).all()
    stored.save(tmp_path / 'a.jpg', exif=exif, quality=95)
    pixels = read(tmp_path / 'a.jpg')
    assert pixels.shape == (32, 48, 3)
    assert np.abs(corners(pixels) - corners(upright)).max() <= 4


@pytest.mark.filterwarnings('ignore:Corrupt EXIF data')
def test_broken_exif_does_not_matter(tmp_path):
    Image.fromarray(SQUARES).save(tmp_path / 'a.jpg', exif=b'Exif\0\0II*\0\xff\xff\xff\x7f', quality=95)
    assert np.abs(corners(read(tmp_path / 'a.jpg')) - CORNERS).max() <= 4


@pytest.mark.filterwarnings('ignore')
def test_orientation_beside_a_damaged_tag(tmp_path):
    """The orientation 6, and another tag whose place is beyond the end."""
    tags = struct.pack('<HHHII', 2, 0x0112, 3, 1, 6) + struct.pack('<HHII', 0x9003, 2, 20, 0x7FFFFF00)
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](SQUARES)))
    stored.save(tmp_path / 'a.jpg', exif=b'Exif\0\0II*\0\x08\0\0\0' + tags + bytes(4), quality=95)
    assert np.abs(corners(read(tmp_path / 'a.jpg')) - CORNERS).max() <= 4


def test_lab(tmp_path):
    profiles = ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB')
    to_lab = ImageCms.buildTransform(*profiles, 'RGB', 'LAB')
    ImageCms.applyTransform(Image.fromarray(SQUARES // 2 + 60), to_lab).save(tmp_path / 'a.tif')
    assert np.abs(corners(read(tmp_path / 'a.tif')) - (CORNERS // 2 + 60)).max() <= 3


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new('RGB', (8, 8), colour) for colour in ('red', 'blue', 'lime')]
    for name in ('a.gif', 'a.webp'):
        options = dict(lossless=True) if name == 'a.webp' else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=50, **options)
        with Image.open(tmp_path / name) as image:
            assert image.n_frames == 3
        assert (read(tmp_path / name) == [255, 0, 0]).all()


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.webp', 'a.tif', 'a.gif', 'a.bmp'])
@pytest.mark.parametrize('share', [0.02, 0.5, 0.9])
def test_truncated(tmp_path, name, share):
    path = noise(tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UnreadableImageError, match='Error: .*(trunc|identify|end of|decod|Trunc|bytes)'):
        read(path)


def test_missing(tmp_path):
    with pytest.raises(UnreadableImageError, match='FileNotFoundError: .*missing.jpg'):
        read(tmp_path / 'missing.jpg')


def test_empty(tmp_path):
    (tmp_path / 'a.jpg').touch()
    with pytest.raises(UnreadableImageError, match='UnidentifiedImageError: cannot identify'):
        read(tmp_path / 'a.jpg')


def test_text_with_the_wrong_name(tmp_path):
    (tmp_path / 'a.jpg').write_text('<html>404 not found</html>')
    with pytest.raises(UnreadableImageError, match='UnidentifiedImageError: cannot identify'):
        read(tmp_path / 'a.jpg')


def test_broken_png_chunk(tmp_path):
    path = noise(tmp_path / 'a.png')
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match='Error: '):
        read(path)


def test_broken_tiff_metadata(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / 'a.tif')
    content = (tmp_path / 'a.tif').read_bytes()
    offsets = struct.pack('<HH', 273, 4)  # where the pixels are: an integer, turned into a float
    assert content.count(offsets) == 1
    (tmp_path / 'a.tif').write_bytes(content.replace(offsets, struct.pack('<HH', 273, 11)))
    with pytest.raises(UnreadableImageError, match='TypeError: '):
        read(tmp_path / 'a.tif')


def test_decompression_bomb(tmp_path, monkeypatch):
    path = noise(tmp_path / 'a.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    with pytest.raises(UnreadableImageError, match='DecompressionBombError: .*4096 pixels'):
        read(path)


def test_directory(tmp_path):
    (tmp_path / 'a.jpg').mkdir()
    with pytest.raises(UnreadableImageError, match='IsADirectoryError'):
        read(tmp_path / 'a.jpg')


@pytest.mark.skipif(os.geteuid() == 0, reason='the superuser may read every file')
def test_no_permission(tmp_path):
    path = noise(tmp_path / 'a.jpg')
    path.chmod(0)
    with pytest.raises(UnreadableImageError, match='PermissionError'):
        read(path)
