import math

import pytest
import torch
from torch.nn import functional as F

from mvp_mm.models import MVPLoss


def by_hand(pred, target, mask=None, cls_weight=1.0):
    """Eq. 9 as written in the paper, one token at a time."""
    total = 0.0
    masks = [None] * len(pred) if mask is None else mask.tolist()
    for f_image, g_image, masked in zip(pred.tolist(), target.tolist(), masks, strict=True):
        weighted, weights = 0.0, 0.0
        for m, (f, g) in enumerate(zip(f_image, g_image, strict=True)):
            dot = sum(a * b for a, b in zip(f, g, strict=True))
            cosine = dot / math.sqrt(sum(a * a for a in f)) / math.sqrt(sum(b * b for b in g))
            weight = cls_weight if m == 0 else 1.0 if masked is None else float(masked[m - 1])
            weighted += weight * cosine
            weights += weight
        total -= weighted / weights
    return total / len(pred)


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(0)
    pred = torch.randn(3, 10, 7, generator=generator)
    target = torch.randn(3, 10, 7, generator=generator) * 5
    mask = torch.rand(3, 9, generator=generator) < 0.4
    return pred, target, mask


def test_equation_9(tokens):
    pred, target, mask = tokens
    assert MVPLoss()(pred, target).item() == pytest.approx(by_hand(pred, target), abs=1e-6)
    assert MVPLoss()(pred, target, mask).item() == MVPLoss()(pred, target).item()


@pytest.mark.parametrize('cls_weight', [0.0, 1.0, 2.5])
def test_ablations(tokens, cls_weight):
    pred, target, mask = tokens
    loss = MVPLoss(tokens='masked', cls_weight=cls_weight)(pred, target, mask.view(3, 3, 3))
    assert loss.item() == pytest.approx(by_hand(pred, target, mask, cls_weight), abs=1e-6)
    loss = MVPLoss(cls_weight=cls_weight)(pred, target)
    assert loss.item() == pytest.approx(by_hand(pred, target, None, cls_weight), abs=1e-6)


def test_range_and_scale(tokens):
    pred, target, _ = tokens
    loss = MVPLoss()
    assert loss(target * 3, target).item() == pytest.approx(-1, abs=1e-6)
    assert loss(-target, target).item() == pytest.approx(1, abs=1e-6)


def test_float32_under_autocast(tokens):
    pred, target, _ = tokens
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = MVPLoss()(pred.bfloat16(), target.bfloat16())
    assert loss.dtype == torch.float32
    expected = by_hand(pred.bfloat16().float(), target.bfloat16().float())
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_errors(tokens):
    pred, target, _ = tokens
    with pytest.raises(ValueError, match='needs the mask'):
        MVPLoss(tokens='masked')(pred, target)
    with pytest.raises(ValueError, match=r'\(3, 10, 7\).*\(3, 10, 6\)'):
        MVPLoss()(pred, target[..., :6])
    with pytest.raises(ValueError, match='visible'):
        MVPLoss(tokens='visible')
    with pytest.raises(ValueError, match='negative'):
        MVPLoss(cls_weight=-1)


def test_tokens_without_cls():
    """Of a teacher without CLS: the mean of the patches alone, whatever the weight of CLS."""
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randn(2, 2, 6, 5, generator=generator)
    mask = torch.tensor([[[1, 0, 1], [0, 0, 0]], [[1, 1, 1], [0, 1, 0]]], dtype=torch.bool)
    cosines = F.cosine_similarity(pred, target, dim=-1)
    assert torch.allclose(MVPLoss(cls_weight=7)(pred, target, mask), -cosines.mean(), atol=1e-6)
    masked = -(cosines * mask.flatten(1)).sum(1) / mask.flatten(1).sum(1)
    assert torch.allclose(MVPLoss('masked')(pred, target, mask), masked.mean(), atol=1e-6)
