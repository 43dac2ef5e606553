"""Every pipeline of every config reads awkward images to the pixels that pre-training sees."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from needs_mmdet import as_parameters
from PIL import Image, ImageCms

import mvp_mm.datasets.segmentation  # noqa: F401
from mvp_mm.datasets import FastCrop
from mvp_mm.datasets.transforms.decode_image import decode_image

CONFIGS = Path(__file__).parents[2] / 'configs'
RENDERED = {  # no file is read
    *(
        f'mvp/vittiny_scenes{end}.py'
        for end in ('', '_beit', '_clip_dino', '_dino', '_mae', '_pixel', '_simmim')
    ),
    *(f'rils/vittiny_scenes{end}.py' for end in ('', '_clip', '_mae_clip')),
    *('mvp/convtiny_scenes.py', 'finetune/vittiny_scenes.py', 'zero_shot/scenes.py'),
    *('teachers/clip_vittiny_scenes.py', 'teachers/dino_vittiny_scenes.py'),
}
NAMES = sorted({str(path.relative_to(CONFIGS)) for path in CONFIGS.glob('[!_]*/*.py')} - RENDERED)
# These have rendered scenes, but for what is there for a user's photographs.
SCENES = [name for name in NAMES if '_scenes' in name or name == 'mvp/vittiny_overfit.py']
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (24, 40, 1), dtype=np.uint8)


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def damaged_exif(kind: str) -> bytes:
    """Tags with the orientation 6, of which another has no end, or that are no tags at all."""
    if kind == 'no tags':
        return b'Exif\0\0' + b'\xff' * 20
    tags = struct.pack('<HHHII', 2, 0x0112, 3, 1, 6) + struct.pack('<HHII', 0x8769, 4, 1, 0xFFFFFF00)
    return b'Exif\0\0II*\0\x08\0\0\0' + tags + b'\0\0\0\0'


def sixteen_bits_rgb() -> bytes:
    """A PNG with three channels of 16 bits, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    rows = b''.join(b'\0' + row.tobytes() for row in (RGB.astype('>u2') * 257))
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', 40, 24, 16, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


@pytest.fixture(scope='module')
def awkward(tmp_path_factory):
    """Image files by what is awkward about them."""
    folder = tmp_path_factory.mktemp('awkward')
    grey, photo = Image.fromarray(RGB[..., 0]), Image.fromarray(RGB)
    images = {
        'plain.jpg': (photo, {}),
        'grey.jpg': (grey, {}),
        'turned.jpg': (photo, dict(exif=rotated())),
        'turned.png': (photo, dict(exif=rotated())),
        'turned.webp': (photo, dict(exif=rotated(), lossless=True)),
        'no tags.jpg': (photo, dict(exif=damaged_exif('no tags'))),
        'endless tag.jpg': (photo, dict(exif=damaged_exif('endless tag'))),
        'alpha.png': (Image.fromarray(np.concatenate([RGB, ALPHA], 2)), {}),
        'alpha.webp': (Image.fromarray(np.concatenate([RGB, ALPHA], 2)), dict(lossless=True)),
        'alpha.tif': (Image.fromarray(np.concatenate([RGB, ALPHA], 2)), {}),
        'grey with alpha.png': (Image.merge('LA', [grey, Image.fromarray(ALPHA[..., 0])]), {}),
        'palette.png': (photo.quantize(16), dict(transparency=3)),
        'palette.gif': (photo.quantize(16), dict(transparency=3)),
        'one colour is clear.png': (photo, dict(transparency=tuple(map(int, RGB[0, 0])))),
        'cmyk.jpg': (photo.convert('CMYK'), {}),  # Pillow writes Adobe's marker and inverts
        'cmyk.tif': (photo.convert('CMYK'), {}),
        'lab.tif': (lab(photo), {}),
        '16 bits.png': (Image.fromarray(RGB[..., 0].astype(np.uint16) * 257), {}),
        '16 bits.tif': (Image.fromarray(RGB[..., 0].astype(np.uint16) * 257), {}),
        '32 bits.tif': (Image.fromarray(RGB[..., 0].astype(np.int32) * 257), {}),
        'float.tif': (Image.fromarray(RGB[..., 0].astype(np.float32) / 255), {}),
        'one bit.png': (Image.fromarray(RGB[..., 0] > 100), {}),
        'animated.gif': (photo, dict(save_all=True, append_images=[photo.rotate(180)])),
        'animated.webp': (photo, dict(save_all=True, append_images=[photo.rotate(180)], lossless=True)),
        'animated.png': (photo, dict(save_all=True, append_images=[photo.rotate(180)])),
        'pages.tif': (photo, dict(save_all=True, append_images=[photo.rotate(180)])),
        'wrong name.jpg': (photo, dict(format='PNG')),
        'jpeg 2000.jp2': (photo, {}),
    }
    for name, (image, options) in images.items():
        image.save(folder / name, **options)
    (folder / '16 bits rgb.png').write_bytes(sixteen_bits_rgb())
    return {path.name: str(path) for path in sorted(folder.iterdir())}


def lab(photo: Image.Image) -> Image.Image:
    profiles = ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB')
    return ImageCms.applyTransform(photo, ImageCms.buildTransform(*profiles, 'RGB', 'LAB'))


def pipelines(cfg: Config) -> dict[str, list]:
    """All that read files: of the loaders, and those that only the tools look up by name."""
    found = {}
    for phase in ('train', 'val', 'test'):
        dataset = (cfg.get(f'{phase}_dataloader') or {}).get('dataset', {})
        dataset = dataset.get('dataset', dataset)  # of FewShot
        if 'Scene' not in dataset.get('type', ''):
            found[f'{phase}_dataloader'] = dataset.get('pipeline', [])
    for key, value in cfg.items():
        if key.endswith('pipeline'):
            found[key] = value
    return {key: steps for key, steps in found.items() if any(is_reader(step) for step in steps)}


def is_reader(step: dict) -> bool:
    return step['type'].rpartition('.')[2] in ('LoadImageFromFile', 'LoadRGBImage', 'FastCrop')


def loaded(step: object, path: str) -> np.ndarray:
    """RGB pixels that a built first step reads."""
    if isinstance(step, FastCrop):  # its crop of a whole image is what it has read
        crop = FastCrop(
            1, scale=(1, 1), flip=0, brightness=0, contrast=0, saturation=0, reference=step.reference
        )
        pixels = []
        crop.augment = lambda image: pixels.append(image) or image
        crop(dict(img_path=path))
        return pixels[0]
    results = step(dict(img_path=path))
    image = np.asarray(results['img'])
    assert results['img_shape'] == results['ori_shape'] == image.shape[:2] and image.dtype == np.uint8
    return image[..., ::-1] if isinstance(results['img'], np.ndarray) else image


@pytest.fixture(scope='module')
def require_the_pixels(awkward):
    """Check a built first step, once for each class and its arguments."""
    expected = {path: decode_image(path) for path in awkward.values()}
    checked = set()

    def require(step: object) -> None:
        kind = type(step), str(step)
        if kind not in checked:
            for path, pixels in expected.items():
                assert (loaded(step, path) == pixels).all(), path
        checked.add(kind)

    return require


INHERITED = [f'mvp_mm::{name}' for name in NAMES if name.startswith(('detection', 'finetune', 'upernet'))]


@pytest.mark.parametrize('name', as_parameters([*NAMES, *INHERITED]))
def test_every_pipeline_of_every_config(name, require_the_pixels, tmp_path):
    path = CONFIGS / name
    if name.startswith('mvp_mm::'):
        path = tmp_path / 'mine.py'
        path.write_text(f'_base_ = {name!r}\n')
    cfg = Config.fromfile(path)
    found = pipelines(cfg)
    assert found
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for key, steps in found.items():
            assert [is_reader(step) for step in steps] == [True] + [False] * (len(steps) - 1), key
            require_the_pixels(Compose(steps).transforms[0])
    others = ('teachers', 'prompts/', 'rils/', 'zero_shot/')  # train, or are tested, in ways of their own
    if name.removeprefix('mvp_mm::') in SCENES or name.startswith(others):
        return
    assert {'train_dataloader', 'test_dataloader'} <= found.keys()
    if 'mvp/' not in name:
        assert 'val_dataloader' in found
    if 'upernet' in name:
        assert {'test_pipeline', 'tta_pipeline'} <= found.keys()
