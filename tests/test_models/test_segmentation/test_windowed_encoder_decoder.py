"""Batched sliding windows, against mmseg's own one after another."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from torch import nn

from mvp_mm.models.segmentation import WindowedEncoderDecoder
from mvp_mm.models.segmentation.windowed_encoder_decoder import RepeatableAvgPool2d, repeat_pooling

ARCH = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)


def segmentor(window_batch=8, crop=(32, 32), stride=(20, 20)):
    torch.manual_seed(0)
    model = dict(
        type='mmseg.WindowedEncoderDecoder',
        backbone=dict(
            type='mmpretrain.MVPViT',
            arch=ARCH,
            img_size=32,
            patch_size=8,
            out_type='featmap',
            out_indices=(1,),
        ),
        decode_head=dict(
            type='mmseg.FCNHead',
            in_channels=24,
            channels=8,
            num_convs=1,
            num_classes=3,
            norm_cfg=dict(type='BN'),
            align_corners=False,
        ),
        train_cfg=dict(),
        test_cfg=dict(mode='slide', crop_size=crop, stride=stride, window_batch=window_batch),
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(ConfigDict(model)).eval()


def metas(count):
    return [dict.fromkeys(('ori_shape', 'img_shape', 'pad_shape'), (70, 53)) for _ in range(count)]


@torch.no_grad()
@pytest.mark.parametrize('window_batch', [1, 3, 8, 100])
@pytest.mark.parametrize('size', [(70, 53), (32, 32), (32, 90)])
def test_the_logits_are_mmsegs(size, window_batch):
    model = segmentor(window_batch)
    images = torch.randn(2, 3, *size)
    expected = EncoderDecoder.slide_inference(model, images, metas(2))
    got = WindowedEncoderDecoder.slide_inference(model, images, metas(2))
    assert got.shape == (2, 3, *size) and torch.allclose(got, expected, atol=1e-5)


@torch.no_grad()
def test_windows_go_together():
    model = segmentor(window_batch=4)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    model.slide_inference(torch.zeros(1, 3, 52, 72), metas(1))  # 2 x 3 windows
    assert seen == [4, 2]


@torch.no_grad()
def test_an_impossible_batch():
    with pytest.raises(ValueError, match='window_batch=0 is no number of windows'):
        segmentor(window_batch=0).slide_inference(torch.zeros(1, 3, 32, 32), metas(1))


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize('size', [1, 2, 3, 6, (2, 5), (None, 3)])
@pytest.mark.parametrize('shape', [(32, 32), (17, 23), (5, 40), (4, 4)])
def test_values_and_gradients_are_those_of_torch(size, shape, deterministic, monkeypatch):
    torch.manual_seed(0)
    images = torch.randn(2, 3, *shape, requires_grad=True)
    expected = nn.AdaptiveAvgPool2d(size)(images)
    weights = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(expected, images, weights)
    monkeypatch.setattr(nn.functional, 'adaptive_avg_pool2d', None)  # not called any more
    pooled = RepeatableAvgPool2d(size)(images)
    torch.testing.assert_close(pooled, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(pooled, images, weights)[0], gradient, atol=1e-6, rtol=0)


def test_bf16_is_summed_in_float32(deterministic):
    images = torch.randn(1, 2, 33, 33, dtype=torch.bfloat16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        pooled = RepeatableAvgPool2d(3)(images)
    assert pooled.dtype is torch.bfloat16
    exact = nn.AdaptiveAvgPool2d(3)(images.double())
    torch.testing.assert_close(pooled, exact.bfloat16(), atol=1e-3, rtol=8e-3)


def test_torchs_own_otherwise():
    images = torch.randn(1, 2, 9, 9)
    assert torch.equal(RepeatableAvgPool2d(2)(images), nn.AdaptiveAvgPool2d(2)(images))


def test_names_stay():
    model = nn.Sequential(
        nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Conv2d(1, 1, 1)), nn.AdaptiveAvgPool2d((1, 3))
    )
    names = list(model.state_dict())
    repeat_pooling(model)
    assert list(model.state_dict()) == names
    assert isinstance(model[0][0], RepeatableAvgPool2d) and model[1].output_size == (1, 3)
