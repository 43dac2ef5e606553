from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from mvp_mm.datasets import (
    BlockwiseMask,
    FastCrop,
    LoadRGBImage,
    PackMaskedInputs,
    SampleIndex,
    UnlabelledImages,
)

CONFIGS = Path(__file__).parents[2] / 'configs' / 'mvp'


@pytest.fixture(scope='module')
def config():
    return Config.fromfile(CONFIGS / 'vitb16_in1k.py')


def test_pipeline_is_beits(config):
    crop, mask, pack = (TRANSFORMS.build(step) for step in config.train_dataloader.dataset.pipeline)
    assert type(crop) is FastCrop
    assert type(pack) is PackMaskedInputs

    assert crop.jitter == ((0.6, 1.4), (0.6, 1.4), (0.6, 1.4))
    assert crop.flip == 0.5
    assert crop.size == (224, 224)
    assert crop.scale == (0.08, 1.0)
    assert crop.ratio == (3 / 4, 4 / 3)
    assert not crop.reference

    assert type(mask) is BlockwiseMask
    assert (mask.rows, mask.cols, mask.num_masking_patches, mask.min_num_patches) == (14, 14, 75, 16)
    assert np.exp(mask.log_aspect) == pytest.approx([0.3, 1 / 0.3])


@pytest.mark.parametrize(
    ('name', 'size', 'grid', 'masked'), [('vitb16_in1k', 224, 14, 75), ('vittiny_debug', 64, 8, 24)]
)
def test_sample(image_folder, name, size, grid, masked):
    pipeline = Config.fromfile(CONFIGS / f'{name}.py').train_pipeline
    dataset = UnlabelledImages(str(image_folder), pipeline=pipeline)
    sample = dataset[SampleIndex(0, 0, 0)]
    assert sample['inputs'].dtype == torch.uint8
    assert sample['inputs'].shape == (3, size, size)
    assert sample['inputs'].float().std() > 5
    assert sample['mask'].dtype == torch.bool
    assert sample['mask'].shape == (grid, grid)
    assert sample['mask'].sum() == masked


def test_channels_stay_rgb(tmp_path, config):
    Image.new('RGB', (300, 260), (180, 100, 40)).save(tmp_path / 'a.png')
    dataset = UnlabelledImages(str(tmp_path), pipeline=config.train_pipeline)
    for epoch in range(5):
        red, green, blue = dataset[SampleIndex(0, epoch, 0)]['inputs'].float().mean((1, 2)).tolist()
        assert red > green > blue


def test_flips_and_crops_are_spread(tmp_path, config):
    ramp = np.zeros((256, 256, 3), np.uint8)
    ramp[..., 0] = np.arange(256)  # brighter to the right
    Image.fromarray(ramp).save(tmp_path / 'a.png')
    crop, *rest = config.train_pipeline
    steps = [dict(crop, brightness=0, contrast=0, saturation=0), *rest]
    dataset = UnlabelledImages(str(tmp_path), pipeline=steps)
    flipped, shares = 0, []
    for epoch in range(300):
        row = dataset[SampleIndex(0, epoch, 0)]['inputs'][0, 112].float()
        flipped += bool(row[0] > row[-1])
        shares.append(abs(row[0] - row[-1]).item() / 255)
    assert flipped / 300 == pytest.approx(0.5, abs=0.1)
    assert min(shares) < 0.4  # width of the smallest crops: sqrt(0.08)
    assert max(shares) > 0.9


def test_photographs_are_read(photographs):
    dataset = UnlabelledImages(str(photographs))
    assert len(dataset) == 400
    load = LoadRGBImage()
    grey, modes = 0, set()
    for index in range(400):
        path = dataset.get_data_info(index)['img_path']
        with Image.open(path) as image:
            modes.add(image.mode)
            is_grey = image.mode == 'L'
        results = load(dict(img_path=path))
        pixels = np.asarray(results['img'])
        assert pixels.dtype == np.uint8
        assert pixels.shape == (*results['img_shape'], 3)
        if is_grey:
            grey += 1
            assert (pixels == pixels[:, :, :1]).all()
            with Image.open(path) as image:
                assert (pixels[:, :, 0] == np.asarray(image)).all()
    assert grey == 8
    assert modes == {'RGB', 'L'}


def test_small_photographs_are_upsampled(photographs, config):
    dataset = UnlabelledImages(str(photographs), pipeline=config.train_pipeline)
    small = []
    for index in range(400):
        with Image.open(dataset.get_data_info(index)['img_path']) as image:
            if min(image.size) < 224:
                small.append(index)
    assert len(small) == 31
    textured = 0
    for index in small:
        sample = dataset[SampleIndex(index, 0, 0)]
        assert sample['data_samples'].sample_idx == index
        inputs = sample['inputs'].float()
        assert inputs.shape == (3, 224, 224)
        edges = inputs[:, 0], inputs[:, -1], inputs[:, :, 0], inputs[:, :, -1]
        textured += all(edge.std(1).sum() > 0 for edge in edges)
    assert textured >= 25  # padding would leave flat edges; few photographs have one
