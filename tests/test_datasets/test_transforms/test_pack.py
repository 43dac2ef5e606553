"""One tensor of each field of a batch, whatever the fields."""

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from PIL import Image

from mvp_mm.datasets import PackMaskedInputs

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_an_array():
    packed = PackMaskedInputs()(dict(img=IMAGE, mask=np.zeros((2, 3), bool)))['inputs']
    assert packed.shape == (3, 20, 30) and packed.dtype == torch.uint8 and packed.is_contiguous()
    assert (packed.numpy() == IMAGE.transpose(2, 0, 1)).all()


def test_without_a_mask():
    packed = PackMaskedInputs()(dict(img=Image.fromarray(IMAGE), sample_idx=3, img_path='a.jpg', other=1))
    assert packed.keys() == {'inputs', 'data_samples'}
    assert (packed['inputs'].numpy() == IMAGE.transpose(2, 0, 1)).all()
    assert packed['data_samples'].metainfo == dict(sample_idx=3, img_path='a.jpg')


def test_further_fields_are_stacked():
    pack = PackMaskedInputs(fields=('tokens', 'gt_label', 'second', 'third', 'caption', 'weight'))
    sample = dict(
        img=IMAGE,
        mask=np.eye(3, dtype=bool),
        tokens=[4, 5, 6],
        gt_label=np.int64(2),
        second=IMAGE[::2],
        third=Image.fromarray(IMAGE),
        caption='a red star',
        weight=0.5,
    )
    batch = default_collate([pack(dict(sample)) for _ in range(4)])
    shapes = {key: tuple(value.shape) for key, value in batch.items() if isinstance(value, torch.Tensor)}
    assert shapes == dict(
        inputs=(4, 3, 20, 30),
        mask=(4, 3, 3),
        tokens=(4, 3),
        gt_label=(4,),
        second=(4, 3, 10, 30),
        third=(4, 3, 20, 30),
        weight=(4,),
    )
    assert batch['tokens'].dtype == batch['gt_label'].dtype == torch.int64
    assert (batch['second'][3].numpy() == IMAGE[::2].transpose(2, 0, 1)).all()
    assert list(batch['caption']) == ['a red star'] * 4


def test_a_field_that_a_sample_lacks():
    with pytest.raises(ValueError, match=r"fields=\('tokens',\)\): the sample has no tokens, but img, mask"):
        PackMaskedInputs(fields=['tokens'])(dict(img=IMAGE, mask=np.eye(3, dtype=bool)))
