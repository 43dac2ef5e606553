import open_clip
import pytest
import torch
from mmpretrain.registry import MODELS
from torch.nn import functional as F

from mvp_mm.models import ContrastiveLoss


def test_reference(numbers):
    images, texts = (numbers[name].requires_grad_() for name in ('image_embed', 'text_embed'))
    loss = ContrastiveLoss()(images, texts, numbers['logit_scale'])
    loss.backward()
    assert loss.dtype == torch.float64
    assert abs(loss.item() - numbers['contrastive'].item()) < 1e-10
    for found, name in ((images, 'grad_image_embed'), (texts, 'grad_text_embed_contrastive_only')):
        assert torch.allclose(found.grad, numbers[name], rtol=0, atol=1e-10), name


def test_it_is_open_clips():
    torch.manual_seed(0)
    images, texts = torch.randn(2, 5, 7, dtype=torch.float64, requires_grad=True).unbind()
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    loss = MODELS.build(dict(type='ContrastiveLoss'))(images, texts, scale)
    units = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    expected = open_clip.ClipLoss()(*units, scale)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    (found,), (wanted,) = torch.autograd.grad(loss, scale), torch.autograd.grad(expected, scale)
    assert found.item() == pytest.approx(wanted.item(), abs=1e-12)


@pytest.mark.slow
def test_precision():
    """A batch of 4096 at the largest logit scale: the error is that of float32, not of bf16."""
    torch.manual_seed(0)
    images, texts = torch.randn(2, 4096, 16).bfloat16().unbind()
    exact = [part.double().requires_grad_() for part in (images, texts)]
    expected = ContrastiveLoss()(*exact, 100.0)
    expected.backward()
    single = [part.float().requires_grad_() for part in (images, texts)]
    with torch.autocast('cpu', torch.bfloat16):
        loss = ContrastiveLoss()(*single, 100.0)
        few = ContrastiveLoss()(images[:5], texts[:5], 100.0)
        assert torch.equal(few, ContrastiveLoss()(images[:5].float(), texts[:5].float(), 100.0))
    assert loss.dtype == few.dtype == torch.float32
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for found, wanted in zip(single, exact, strict=True):
        assert (found.grad - wanted.grad).abs().max() < 1e-5 * wanted.grad.abs().max()


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r'pairs of embeddings \(B, D\), got images \(2, 3\)'):
        ContrastiveLoss()(torch.ones(2, 3), torch.ones(3, 3), 1.0)
