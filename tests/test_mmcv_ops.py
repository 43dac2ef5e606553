"""torchvision's operators in the place of mmcv's, against formulas written out."""

import sys
from importlib.util import find_spec

import pytest
import torch

from mvp_mm import mmcv_ops, stack


def iou(one, other):
    corners = torch.maximum(one[:2], other[:2]), torch.minimum(one[2:], other[2:])
    shared = (corners[1] - corners[0]).clamp(min=0).prod()
    areas = [(box[2:] - box[:2]).prod() for box in (one, other)]
    return shared / (sum(areas) - shared)


def test_suppression():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(40, 4, generator=generator) * 20
    boxes[:, 2:] += boxes[:, :2] + 5
    scores = torch.rand(40, generator=generator)
    kept = []
    for index in scores.argsort(descending=True).tolist():
        if all(iou(boxes[index], boxes[better]) <= 0.4 for better in kept):
            kept.append(index)
    assert 5 < len(kept) < 40
    assert mmcv_ops.nms(boxes, scores.bfloat16().float(), 0.4, 0).shape[0] > 0
    assert mmcv_ops.nms(boxes, scores, iou_threshold=0.4, offset=0).tolist() == kept


def pooled(image, box, size, samples, scale):
    """Means of bilinear samples, at centres half a pixel off the corners: ``aligned=True``."""
    left, top, right, bottom = (side * scale - 0.5 for side in box.tolist())
    out = torch.zeros(image.shape[0], size, size, dtype=image.dtype)
    for row in range(size):
        for column in range(size):
            for i in range(samples):
                for j in range(samples):
                    y = top + (row + (i + 0.5) / samples) * (bottom - top) / size
                    x = left + (column + (j + 0.5) / samples) * (right - left) / size
                    y0, x0 = int(y // 1), int(x // 1)
                    for dy, wy in ((0, 1 - (y - y0)), (1, y - y0)):
                        for dx, wx in ((0, 1 - (x - x0)), (1, x - x0)):
                            out[:, row, column] += image[:, y0 + dy, x0 + dx] * wy * wx / samples**2
    return out


def test_roi_align_and_its_gradient():
    maps = torch.randn(2, 3, 12, 14, requires_grad=True)
    rois = torch.tensor([[0, 4.0, 4.6, 18.2, 20.0], [1, 6.5, 3.1, 25.0, 17.7]])
    keys = dict(
        aligned_height=3, aligned_width=3, spatial_scale=0.5, sampling_ratio=2, pool_mode=1, aligned=True
    )
    expected = torch.stack([pooled(maps[int(roi[0])], roi[1:], 3, 2, 0.5) for roi in rois])
    found = torch.zeros_like(expected)
    empty = torch.empty(0)
    mmcv_ops.roi_align_forward(maps.detach(), rois, found, empty, empty, **keys)
    torch.testing.assert_close(found, expected.detach())
    weights = torch.randn_like(found)
    (gradient,) = torch.autograd.grad(expected, maps, weights)
    of_maps = torch.zeros_like(maps)
    mmcv_ops.roi_align_backward(weights, rois, empty, empty, of_maps, **keys)
    torch.testing.assert_close(of_maps, gradient)
    half = torch.zeros_like(found, dtype=torch.bfloat16)
    mmcv_ops.roi_align_forward(maps.detach().bfloat16(), rois, half, empty, empty, **keys)
    torch.testing.assert_close(half.float(), found, atol=0.05, rtol=0)
    with pytest.raises(NotImplementedError, match='RoI align by the maximum needs .*MMCV_WITH_OPS=1'):
        mmcv_ops.roi_align_forward(maps, rois, found, empty, empty, **{**keys, 'pool_mode': 0})


def test_other_operators_say_what_they_need():
    assert callable(mmcv_ops.softnms)  # mmcv looks at import
    with pytest.raises(NotImplementedError, match='softnms needs the compiled operators of mmcv'):
        mmcv_ops.softnms(1, sigma=2)
    with pytest.raises(NotImplementedError, match='offset=1'):
        mmcv_ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5, 1)
    assert not hasattr(mmcv_ops, '__path__')


@pytest.mark.parametrize('installed', [('mmcv', 'mmdet'), ('mmcv',), ('mmcv', 'mmdet', 'mmcv._ext')])
def test_only_where_mmdet_is_there_and_the_operators_are_not(installed, monkeypatch):
    monkeypatch.setattr(stack.importlib.util, 'find_spec', lambda name: name if name in installed else None)
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
    stack.provide_ops()
    assert (sys.modules.get('mmcv._ext') is mmcv_ops) == (installed == ('mmcv', 'mmdet'))
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)


@pytest.mark.skipif(find_spec('mmdet') is None, reason='mmdet is not installed: mvp_mm[detection]')
def test_mmcvs_own_layers_call_them():
    from mmcv.ops import RoIAlign, batched_nms

    maps = torch.randn(1, 2, 16, 16, requires_grad=True)
    rois = torch.tensor([[0, 8.0, 8.0, 40.0, 48.0]])
    own, reference = (RoIAlign(4, 0.25, 2, use_torchvision=other)(maps, rois) for other in (False, True))
    torch.testing.assert_close(own, reference)
    gradients = [torch.autograd.grad(out.square().sum(), maps)[0] for out in (own, reference)]
    torch.testing.assert_close(*gradients)
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4.1], [0, 0, 4, 4]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    _, kept = batched_nms(boxes, scores, torch.tensor([0, 0, 1]), dict(type='nms', iou_threshold=0.5))
    assert kept.tolist() == [0, 2]
