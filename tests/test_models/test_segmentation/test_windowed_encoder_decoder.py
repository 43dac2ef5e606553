"""Batched sliding windows, against mmseg's own one after another."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS

from mvp_mm.models.segmentation import WindowedEncoderDecoder

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
