import math

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip('mmdet', reason='mmdet is not installed: mvp_mm[detection]')

from mvp_mm.models.detection import SimpleFeaturePyramid  # noqa: E402


def norm(maps, layer):
    """LayerNorm over the channels of each place."""
    mean = maps.mean(1, keepdim=True)
    variance = (maps - mean).square().mean(1, keepdim=True)
    shape = (1, -1, 1, 1)
    return (maps - mean) / (variance + 1e-6).sqrt() * layer.weight.view(shape) + layer.bias.view(shape)


def doubled(maps, layer):
    """A transposed convolution of 2x2 and stride 2: each place becomes four of its own."""
    batch, _, height, width = maps.shape
    parts = torch.einsum('bcij,codv->boidjv', maps, layer.weight)
    return parts.reshape(batch, -1, 2 * height, 2 * width) + layer.bias.view(1, -1, 1, 1)


def smoothed(maps, narrow, first, wide, second):
    maps = norm(torch.einsum('bcij,oc->boij', maps, narrow.weight[:, :, 0, 0]), first)
    columns = F.unfold(maps, 3, padding=1)
    maps = (wide.weight.flatten(1) @ columns).unflatten(2, maps.shape[2:])
    return norm(maps, second)


def randomise(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return module


@pytest.mark.parametrize('shape', [(6, 8), (5, 3)])
def test_values_written_out(shape):
    pyramid = randomise(SimpleFeaturePyramid(16, out_channels=12)).double()
    maps = torch.randn(2, 16, *shape, dtype=torch.float64)
    levels = pyramid([torch.zeros(1), maps])
    sides = [tuple(math.floor(side * scale) for side in shape) for scale in (4, 2, 1, 0.5)]
    sides.append(tuple(-(-side // 2) for side in sides[-1]))
    assert [tuple(level.shape) for level in levels] == [(2, 12, *side) for side in sides]
    four, two, one, half = pyramid.levels
    gelu = norm(doubled(maps, four[0]), four[1])
    gelu = 0.5 * gelu * (1 + torch.erf(gelu / 2**0.5))
    pooled = maps[..., : shape[0] // 2 * 2, : shape[1] // 2 * 2]
    pooled = pooled.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))
    expected = [
        smoothed(doubled(gelu, four[3]), *four[4:]),
        smoothed(doubled(maps, two[0]), *two[1:]),
        smoothed(maps, *one),
        smoothed(pooled, *half[1:]),
    ]
    expected.append(expected[-1][..., ::2, ::2])
    for level, values in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, values.float(), atol=1e-5, rtol=1e-5)
    assert [m.out_channels for m in (four[0], four[3], two[0])] == [8, 4, 8]  # ViTDet halves the width


def test_other_patch_sizes():
    """Strides 4 to 32 from patches of 8 and of 32 pixels; as many levels as asked for."""
    small, large = (SimpleFeaturePyramid(8, 4, scales) for scales in ((2, 1, 0.5, 0.25), (8, 4, 2, 1)))
    assert [level.shape[-1] for level in small([torch.zeros(1, 8, 16, 16)])] == [32, 16, 8, 4, 2]
    assert [level.shape[-1] for level in large([torch.zeros(1, 8, 4, 4)])] == [32, 16, 8, 4, 2]
    assert len(SimpleFeaturePyramid(8, 4, num_outs=7)([torch.zeros(1, 8, 8, 8)])) == 7


def test_float32_under_autocast():
    """mmdet gives boxes the dtype of the maps, and bf16 has 8 bits for a coordinate of up to 1024."""
    pyramid = SimpleFeaturePyramid(8, 4, norm_cfg=dict(type='BN'))
    with torch.autocast('cpu', torch.bfloat16):
        levels = pyramid([torch.randn(2, 8, 4, 4)])
    assert {level.dtype for level in levels} == {torch.float32}
    levels[0].sum().backward()


@pytest.mark.parametrize('scales', [(3,), (0,), (-2,), (4, 1.5)])
def test_scales_that_are_none(scales):
    with pytest.raises(ValueError, match='is no power of two'):
        SimpleFeaturePyramid(8, scales=scales)


def test_too_few_outputs():
    with pytest.raises(ValueError, match='num_outs=3 is less than the 4 scales'):
        SimpleFeaturePyramid(8, num_outs=3)
