import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample

from mvp_mm.models.segmentation.packed_seg_preprocessor import (
    PackedSegPreprocessor,
    move_packed,
    moved_packed,
)

SETTINGS = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    size=(32, 40),
    bgr_to_rgb=True,
    test_cfg=dict(size=(48, 48)),
)


def batch(sizes):
    torch.manual_seed(0)
    samples = []
    for size in sizes:
        sample = SegDataSample(metainfo=dict(img_path='a.png', img_shape=size))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 150, (1, *size)))
        samples.append(sample)
    return dict(
        inputs=[torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes], data_samples=samples
    )


def assert_same(prepared, expected):
    assert torch.equal(prepared['inputs'], expected['inputs'])
    for mine, theirs in zip(prepared['data_samples'], expected['data_samples'], strict=True):
        assert torch.equal(mine.gt_sem_seg.data, theirs.gt_sem_seg.data)
        assert mine.metainfo == theirs.metainfo


@pytest.mark.parametrize('sizes,training', [([(32, 40), (17, 40)], True), ([(31, 33)] * 2, False)])
def test_as_mmsegs(sizes, training):
    expected = SegDataPreProcessor(**SETTINGS)(batch(sizes), training)
    assert_same(PackedSegPreprocessor(**SETTINGS)(batch(sizes), training), expected)
    packed = moved_packed(batch(sizes), torch.device('cpu'))
    assert_same(PackedSegPreprocessor(**SETTINGS)(packed, training), expected)


def test_one_buffer_for_all():
    tensors = [
        torch.arange(7, dtype=torch.uint8),
        torch.arange(6).view(2, 3),
        torch.tensor(0.5, dtype=torch.float64),
        torch.zeros(0, 3),
        torch.arange(12.0).view(3, 4).T,
    ]
    moved = move_packed(tensors, torch.device('cpu'))
    assert len({one.untyped_storage().data_ptr() for one in moved}) == 1
    for one, other in zip(moved, tensors, strict=True):
        assert one.dtype is other.dtype and torch.equal(one, other)


def test_the_shipped_config_has_it(config='upernet/vitb16_ade20k_160k_512x512.py'):
    from pathlib import Path

    from mmengine.config import Config

    cfg = Config.fromfile(Path(__file__).parents[3] / 'configs' / config)
    assert cfg.model.data_preprocessor.type == 'mmseg.PackedSegPreprocessor'
