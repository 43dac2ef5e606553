import pickle
import random
import warnings

import numpy as np
import pytest
from PIL import Image

from mvp_mm.datasets import LoadImageFromFile, LoadRGBImage, UnlabelledImages, UnreadableImageError
from mvp_mm.datasets.transforms import decode_image as reading
from mvp_mm.datasets.transforms.decode_image import decode_image

needs_simplejpeg = pytest.mark.skipif(
    reading.simplejpeg is None, reason='simplejpeg has no wheel for this platform'
)
rng = np.random.default_rng(0)
PIXELS = np.asarray(
    Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        (90, 70), Image.Resampling.BICUBIC
    )
)


def outcome(read, path):
    """Pixels, or the error's words."""
    try:
        return read(path)
    except UnreadableImageError as error:
        return str(error)


def by_pillow(path):
    return decode_image(path, fast=False)


def assert_same(path):
    ours, pillows = outcome(decode_image, str(path)), outcome(by_pillow, str(path))
    if isinstance(pillows, str):
        assert ours == pillows
    else:
        assert ours.dtype == np.uint8
        assert ours.flags.writeable
        assert ours.shape == pillows.shape
        assert (ours == pillows).all()
    return ours


def is_fast(path):
    return reading._by_simplejpeg(str(path)) is not None


@pytest.mark.slow
@needs_simplejpeg
def test_photographs_have_the_same_pixels(photographs):
    dataset = UnlabelledImages(str(photographs))
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    assert len(paths) == 400
    for path in paths:
        assert_same(path)
    assert sum(map(is_fast, paths)) == 400


@needs_simplejpeg
@pytest.mark.parametrize(
    'options',
    [
        dict(quality=90),
        dict(quality=30, subsampling=2),
        dict(quality=100, subsampling=0),
        dict(progressive=True),
        dict(optimize=True, restart_marker_rows=1),
        dict(comment='x' * 60_000),
        dict(icc_profile=b'\xff\xda' * 40_000),  # two segments, which look like the start of the pixels
        dict(keep_rgb=True),
    ],
)
def test_jpeg_options(tmp_path, options):
    Image.fromarray(PIXELS).save(tmp_path / 'a.jpg', **options)
    assert is_fast(tmp_path / 'a.jpg')
    assert_same(tmp_path / 'a.jpg')


@needs_simplejpeg
def test_grey_jpeg(tmp_path):
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / 'a.jpg')
    assert is_fast(tmp_path / 'a.jpg')
    pixels = assert_same(tmp_path / 'a.jpg')
    assert (pixels == pixels[..., :1]).all()


@needs_simplejpeg
@pytest.mark.parametrize('orientation', range(10))
def test_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / 'a.jpg', exif=exif)
    assert is_fast(tmp_path / 'a.jpg') == (orientation in (0, 1, 9))
    assert assert_same(tmp_path / 'a.jpg').shape[:2] == ((90, 70) if 5 <= orientation <= 8 else (70, 90))


def test_xmp_orientation(tmp_path):
    xmp = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"></x:xmpmeta>'
    Image.fromarray(PIXELS).save(tmp_path / 'a.jpg', xmp=xmp)
    assert not is_fast(tmp_path / 'a.jpg')
    assert assert_same(tmp_path / 'a.jpg').shape == (90, 70, 3)


@pytest.mark.parametrize(
    ('name', 'mode'),
    [
        ('a.jpg', 'CMYK'),
        ('a.png', 'RGBA'),
        ('a.png', 'P'),
        ('a.png', 'I;16'),
        ('a.gif', 'P'),
        ('a.webp', 'RGB'),
    ],
)
def test_other_files_are_pillows(tmp_path, name, mode):
    deep = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    image = deep if mode == 'I;16' else Image.fromarray(PIXELS).convert(mode)
    image.save(tmp_path / name)
    assert not is_fast(tmp_path / name)
    assert assert_same(tmp_path / name).shape == (70, 90, 3)


@needs_simplejpeg
def test_the_name_does_not_decide(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / 'a.jpg', format='PNG')
    Image.fromarray(PIXELS).save(tmp_path / 'a.png', format='JPEG')
    assert (assert_same(tmp_path / 'a.jpg') == PIXELS).all()
    assert_same(tmp_path / 'a.png')
    assert is_fast(tmp_path / 'a.png')


@needs_simplejpeg
def test_bad_files_have_pillows_words(tmp_path, monkeypatch):
    Image.fromarray(PIXELS).save(tmp_path / 'a.jpg')
    content = (tmp_path / 'a.jpg').read_bytes()
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        (tmp_path / 'b.jpg').write_bytes(content[: int(share * len(content))])
        assert 'Error: ' in assert_same(tmp_path / 'b.jpg')
    (tmp_path / 'empty.jpg').touch()
    assert 'UnidentifiedImageError' in assert_same(tmp_path / 'empty.jpg')
    (tmp_path / 'text.jpg').write_text('<html>')
    assert 'UnidentifiedImageError' in assert_same(tmp_path / 'text.jpg')
    assert 'FileNotFoundError' in assert_same(tmp_path / 'missing.jpg')
    assert 'IsADirectoryError' in assert_same(tmp_path)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    assert 'DecompressionBombError' in assert_same(tmp_path / 'a.jpg')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 5000)
    with pytest.warns(Image.DecompressionBombWarning):
        decode_image(tmp_path / 'a.jpg')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    assert is_fast(tmp_path / 'a.jpg')


@needs_simplejpeg
def test_damaged_files(tmp_path):
    """What simplejpeg accepts has Pillow's pixels, whatever is wrong with the file."""
    path = tmp_path / 'b.jpg'
    Image.fromarray(PIXELS).save(tmp_path / 'a.jpg', restart_marker_rows=1)
    content = (tmp_path / 'a.jpg').read_bytes()
    random.seed(0)
    accepted = 0
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for number in range(300):
            damaged = bytearray(content)
            for _ in range(random.randint(1, 3)):
                damaged[random.randrange(len(content) if number % 2 else 700)] = random.randrange(256)
            path.write_bytes(damaged)
            accepted += is_fast(path)
            assert_same(path)
    assert 30 < accepted < 270


def test_without_simplejpeg(tmp_path, monkeypatch):
    Image.fromarray(PIXELS).save(tmp_path / 'a.jpg')
    monkeypatch.setattr(reading, 'simplejpeg', None)
    assert_same(tmp_path / 'a.jpg')


def test_by_pillow_if_asked_for(tmp_path, monkeypatch):
    Image.fromarray(PIXELS).save(tmp_path / 'a.jpg')
    monkeypatch.setattr(reading, '_by_simplejpeg', lambda *_: pytest.fail('decoded by simplejpeg'))
    assert by_pillow(tmp_path / 'a.jpg').shape == PIXELS.shape


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'turned.jpg'])
@pytest.mark.parametrize('fast', [True, False])
def test_bytes_have_the_pixels_of_their_file(name, fast, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / name, **(dict(exif=exif) if name == 'turned.jpg' else {}))
    content = (tmp_path / name).read_bytes()
    for order in ('RGB', 'BGR'):
        expected = decode_image(tmp_path / name, fast, order)
        assert (decode_image(content, fast, order) == expected).all()
        assert expected.shape == ((90, 70, 3) if name == 'turned.jpg' else (70, 90, 3))


def test_bad_bytes_are_named_by_their_key(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / 'a.jpg')
    content = (tmp_path / 'a.jpg').read_bytes()
    for loader in (LoadRGBImage(), LoadImageFromFile()):
        with pytest.raises(UnreadableImageError, match='^7.tar/3 cannot be read .Unidentified') as caught:
            loader(dict(img_bytes=b'<html>', key='7.tar/3'))
        assert caught.value.reason == "UnidentifiedImageError: cannot identify image file '7.tar/3'"
        with pytest.raises(UnreadableImageError, match='^x.jpg cannot be read .*runcated'):
            loader(dict(img_bytes=content[:300], img_path='x.jpg'))


def test_an_error_keeps_its_reason_between_processes():
    error = UnreadableImageError.of('a.jpg', 'OSError: Truncated File Read')
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == 'a.jpg cannot be read (OSError: Truncated File Read): replace the file, or delete it'
    assert again.reason == 'OSError: Truncated File Read'


def test_the_former_name(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / 'a.png')
    with pytest.warns(DeprecationWarning, match='read_rgb is now decode_image'):
        assert (reading.read_rgb(str(tmp_path / 'a.png'), order='BGR') == PIXELS[..., ::-1]).all()
