import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from mvp_mm.models import MVPDataPreprocessor

IMAGES = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)


def test_images_are_normalised_once():
    out = MVPDataPreprocessor()(dict(inputs=IMAGES))
    assert torch.allclose(out['inputs'], (IMAGES - MEAN) / STD)
    assert out['mask'] is out['data_samples'] is None
    assert dict(MVPDataPreprocessor().state_dict()) == {}


def test_lists_and_bgr():
    out = MVPDataPreprocessor()(dict(inputs=list(IMAGES)))['inputs']
    swapped = MVPDataPreprocessor(bgr_to_rgb=True)(dict(inputs=IMAGES.flip(1)))['inputs']
    assert torch.equal(out, swapped)


def test_masks_of_data_samples():
    masks = torch.rand(2, 2, 2) < 0.5
    samples = [DataSample().set_mask(mask) for mask in masks]
    out = MVPDataPreprocessor()(dict(inputs=IMAGES, data_samples=samples))
    assert torch.equal(out['mask'], masks) and out['mask'].dtype == torch.bool


def test_other_fields_are_passed_on():
    samples = [DataSample(), DataSample()]
    data = dict(
        inputs=IMAGES,
        tokens=[torch.arange(5), torch.arange(5, 10)],
        weights=[np.ones(3), np.zeros(3)],
        labels=torch.tensor([4, 2]),
        captions=['a star', 'a ring'],
        epoch=3,
        nothing=None,
        data_samples=samples,
    )
    out = MVPDataPreprocessor()(data)
    assert torch.equal(out['tokens'], torch.arange(10).view(2, 5))
    assert torch.equal(out['weights'], torch.tensor([[1.0] * 3, [0.0] * 3], dtype=torch.float64))
    assert torch.equal(out['labels'], data['labels']) and out['captions'] == data['captions']
    assert out['epoch'] == 3 and out['nothing'] is None and out['data_samples'] is samples
    assert data['inputs'] is IMAGES, 'the batch itself is not changed'


def test_tensors_follow_the_module():
    moved = MVPDataPreprocessor().to('meta')
    out = moved(dict(inputs=IMAGES, tokens=[torch.arange(5)] * 2, captions=['', '']))
    assert out['inputs'].device.type == out['tokens'].device.type == 'meta'


def test_a_second_crop_is_normalised_too():
    preprocessor = MVPDataPreprocessor(image_keys=('inputs', 'second'))
    out = preprocessor(dict(inputs=IMAGES, second=list(IMAGES.flip(0)), raw=IMAGES))
    assert torch.equal(out['second'], out['inputs'].flip(0)) and torch.equal(out['raw'], IMAGES)


def test_what_it_refuses():
    with pytest.raises(ValueError, match='the inputs of a batch must have one shape'):
        MVPDataPreprocessor()(dict(inputs=[IMAGES[0], IMAGES[1, :, :8]]))
    with pytest.raises(ValueError, match='the tokens of a batch must have one shape'):
        MVPDataPreprocessor()(dict(inputs=IMAGES, tokens=[torch.arange(5), torch.arange(4)]))
    with pytest.raises(ValueError, match=r'\(B, 3, H, W\)'):
        MVPDataPreprocessor()(dict(inputs=IMAGES[:, :1]))
    with pytest.raises(ValueError, match='std positive'):
        MVPDataPreprocessor(std=[1, 0, 1])
