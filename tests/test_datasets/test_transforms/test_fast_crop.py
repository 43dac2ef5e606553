import itertools
import random

import numpy as np
import pytest
import torch
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import ColorJitter, RandomResizedCrop

from mvp_mm.datasets import FastCrop, UnlabelledImages
from mvp_mm.datasets.transforms import decode_image as reading
from mvp_mm.datasets.transforms import fast_crop
from mvp_mm.datasets.transforms.decode_image import decode_image
from mvp_mm.datasets.transforms.fast_crop import (
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
    CropDraw,
    jitter,
    reference_crop,
    resize,
)


def smooth(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).copy()


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def difference(image, size, draw):
    ours = fast_crop.fast_crop(image, size, draw)
    assert ours.dtype == np.uint8
    assert ours.shape == (*size, 3)
    return ours.astype(int) - reference_crop(image, size, draw)


@pytest.mark.parametrize('order', list(itertools.permutations(range(3))))
def test_jitter_is_torchvisions(order):
    """At the image's own size, so that nothing is resized."""
    random.seed(int(''.join(map(str, order))))
    largest, total, bias = 0, [], []
    for number in range(40):
        image = noise(120, 100, number) if number % 2 else smooth(120, 100, number)
        steps = [(step, random.uniform(0.6, 1.4)) for step in order]
        found = difference(image, (120, 100), CropDraw((0, 0, 120, 100), False, steps))
        largest = max(largest, np.abs(found).max())
        total.append(np.abs(found).mean())
        bias.append(found.mean())
    assert largest <= 3
    assert np.mean(total) < 0.4
    assert abs(np.mean(bias)) < 0.06


@pytest.mark.parametrize('step', [BRIGHTNESS, CONTRAST, SATURATION])
@pytest.mark.parametrize('factor', [0.0, 0.6, 0.97, 1.0, 1.01, 1.4, 2.0])
def test_single_step(step, factor):
    for image in (noise(60, 50), smooth(60, 50)):
        found = difference(image, (60, 50), CropDraw((0, 0, 60, 50), False, [(step, factor)]))
        assert np.abs(found).max() <= 1


def test_contrast_is_around_the_whole_images_grey():
    image = np.full((200, 100, 3), 40, np.uint8)
    image[:, 50:] = 200
    draw = CropDraw((20, 60, 30, 30), False, [(CONTRAST, 0.5)])
    assert (fast_crop.fast_crop(image, (8, 8), draw) == 160).all()  # half-way to 120, not to 200
    assert (difference(image, (8, 8), draw) == 0).all()


def test_contrast_after_clipped_brightness():
    """The grey mean is that of clipped values: 255 and 140, not 280 and 140."""
    image = np.full((64, 64, 3), 100, np.uint8)
    image[:, 32:] = 200
    draw = CropDraw((0, 0, 16, 16), False, [(BRIGHTNESS, 1.4), (CONTRAST, 0.6)])
    assert (fast_crop.fast_crop(image, (4, 4), draw) == int(198 + 0.6 * (140 - 198))).all()
    assert (difference(image, (4, 4), draw) == 0).all()


def test_grey_images_stay_grey():
    image = noise(90, 80)[..., :1].repeat(3, axis=2)
    fast = FastCrop(32)
    random.seed(0)
    for _ in range(20):
        crop = fast.augment(image)
        assert (crop == crop[..., :1]).all()


@pytest.mark.parametrize('box', [(200, 160), (90, 130), (224, 300), (30, 40), (1, 1), (1, 60), (224, 224)])
def test_resizing_is_pillows(box):
    region = smooth(*box)
    expected = np.asarray(Image.fromarray(region).resize((224, 200), Image.Resampling.BICUBIC)).astype(int)
    found = resize(region, (200, 224))
    assert found.shape == (200, 224, 3)
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found - expected).mean() < 0.1


def test_large_images_are_antialiased():
    lines = np.zeros((900, 900, 3), np.uint8)
    lines[:, ::2] = 255
    crop = resize(lines, (90, 90)).astype(int)
    assert np.abs(crop - 127).max() <= 4  # without it, stripes of 0 and 255


@pytest.mark.parametrize('flipped', [False, True])
def test_box_is_of_the_flipped_image(flipped):
    image = smooth(150, 200)
    for box in ((0, 0, 40, 60), (100, 120, 50, 80), (3, 7, 101, 93), (0, 0, 150, 200)):
        found = difference(image, (48, 64), CropDraw(box, flipped, []))
        assert np.abs(found).max() <= 2


def test_photographs(photographs):
    dataset = UnlabelledImages(str(photographs))
    fast = FastCrop(224)
    random.seed(0)
    means, shares = [], []
    for index in range(0, 400, 10):
        image = decode_image(dataset.get_data_info(index)['img_path'])
        found = difference(image, fast.size, fast.draw(*image.shape[:2]))
        means.append(np.abs(found).mean())
        shares.append((np.abs(found) > 2).mean())
    assert np.mean(means) < 0.4
    assert max(means) < 1.5
    # At edges between black and white, where Pillow and torch cut off bicubic's overshoot between the passes.
    assert np.mean(shares) < 0.003


def test_draws_are_distributed_as_torchvisions():
    height, width, count = 300, 500, 4000
    fast, shape = FastCrop(224), torch.empty(1, height, width)
    random.seed(0)
    torch.manual_seed(0)
    draws = [fast.draw(height, width) for _ in range(count)]
    boxes = np.array([draw.box for draw in draws], float)
    scale, ratio, factor = (0.08, 1.0), (3 / 4, 4 / 3), (0.6, 1.4)
    expected = np.array([RandomResizedCrop.get_params(shape, scale, ratio) for _ in range(count)], float)

    def measures(boxes):
        top, left, rows, cols = boxes.T
        free_rows, free_cols = np.maximum(height - rows, 1), np.maximum(width - cols, 1)
        return rows * cols, cols / rows, top / free_rows, left / free_cols

    for ours, theirs in zip(measures(boxes), measures(expected), strict=True):
        assert ks_2samp(ours, theirs).pvalue > 0.001
    jitters = [ColorJitter.get_params(factor, factor, factor, None) for _ in range(count)]
    for step in range(3):
        theirs = [jitter[1 + step] for jitter in jitters]
        assert ks_2samp([dict(draw.steps)[step] for draw in draws], theirs).pvalue > 0.001
    orders = [tuple(step for step, _ in draw.steps) for draw in draws]
    for order in itertools.permutations(range(3)):
        assert orders.count(order) / count == pytest.approx(1 / 6, abs=0.025)
    assert np.mean([draw.flipped for draw in draws]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(('height', 'width'), [(10, 400), (400, 10), (33, 1000), (1, 1)])
def test_box_of_a_narrow_image_is_torchvisions(height, width):
    fast = FastCrop(224, scale=(0.9, 1.0))  # which no box has
    shape = torch.empty(1, height, width)
    assert fast.draw(height, width).box == RandomResizedCrop.get_params(shape, (0.9, 1.0), (3 / 4, 4 / 3))


def test_reference_gives_the_same_crops(image_folder):
    paths = [str(path) for path in sorted(image_folder.rglob('*.jpg'))]
    for number, path in enumerate(paths):
        crops = []
        for reference in (False, True):
            random.seed(number)
            results = TRANSFORMS.build(dict(type='FastCrop', size=(48, 64), reference=reference))(
                dict(img_path=path)
            )
            assert results['img_shape'] == (48, 64)
            assert results['ori_shape'] == (96, 80)
            crops.append(results['img'].astype(int))
        assert np.abs(crops[0] - crops[1]).max() <= 3


def test_same_crops_without_simplejpeg(image_folder, monkeypatch):
    path = str(next(image_folder.rglob('*.jpg')))
    logged = []
    monkeypatch.setattr(fast_crop, 'print_log', lambda message, *_, **__: logged.append(message))
    random.seed(0)
    expected = FastCrop(32)(dict(img_path=path))['img']
    assert not logged or reading.simplejpeg is None
    monkeypatch.setattr(reading, 'simplejpeg', None)
    logged.clear()
    random.seed(0)
    assert (FastCrop(32)(dict(img_path=path))['img'] == expected).all()
    assert len(logged) == 1
    assert 'simplejpeg is not installed' in logged[0]


def test_all_draws_come_from_pythons_generator():
    image, fast = smooth(90, 80), FastCrop(32)
    random.seed(5)
    first = fast.augment(image)
    assert not (fast.augment(image) == first).all()
    random.seed(5)
    torch.manual_seed(1), np.random.seed(1)  # of no influence
    assert (fast.augment(image) == first).all()


def test_nothing_to_jitter():
    image = smooth(64, 64)
    fast = FastCrop(64, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, brightness=0, contrast=0, saturation=0)
    assert fast.draw(64, 64).steps == []
    assert (fast.augment(image) == image).all()


def test_the_image_is_left_alone():
    image = smooth(64, 64)
    before = image.copy()
    steps = [(BRIGHTNESS, 1.3), (CONTRAST, 1.2), (SATURATION, 0.7)]
    region = jitter(image[10:40, 5:50], image, steps)
    assert region.shape == (30, 45, 3)
    assert (image == before).all()


def test_plain_is_the_former_name_of_reference():
    with pytest.warns(DeprecationWarning, match='plain=. is now reference='):
        assert FastCrop(32, plain=True).reference
    with pytest.warns(DeprecationWarning):
        assert not FastCrop(32, plain=False).reference


def test_bytes_have_the_crop_of_their_file(image_folder):
    path = next(image_folder.rglob('*.jpg'))
    crops = []
    for sample in (dict(img_path=str(path)), dict(img_bytes=path.read_bytes(), img_path='a.tar/0')):
        random.seed(0)
        found = FastCrop(32)(sample)
        assert found['ori_shape'] == (96, 80) and found['img_shape'] == (32, 32)
        crops.append(found['img'])
    assert (crops[0] == crops[1]).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(scale=(0.5, 0.2)), 'scale='),
        (dict(scale=(0.0, 1.0)), 'scale='),
        (dict(scale=(0.1, 1.5)), 'scale='),
        (dict(ratio=(2.0, 1.0)), 'ratio='),
        (dict(flip=1.5), 'flip=1.5'),
        (dict(brightness=-0.1), 'brightness'),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        FastCrop(224, **arguments)
