import pytest
import torch
from mmpretrain.registry import MODELS
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mvp_mm.models import ContrastiveLoss, LanguageReconstructionLoss
from mvp_mm.models.rils.contrastive_loss import unit


def made(images=5, patches=6, width=8, texts=7, seed=0):
    """Predictions, targets, texts, mask and retrieved in float64."""
    torch.manual_seed(seed)
    prediction, target = torch.randn(2, images, patches, width, dtype=torch.float64).unbind()
    words = torch.randn(texts, width, dtype=torch.float64)
    mask = torch.rand(images, patches) > 0.4
    retrieved = torch.arange(images) % 3 != 1
    return [prediction.requires_grad_(), target.requires_grad_(), words.requires_grad_(), mask, retrieved]


def written_out(prediction, target, texts, mask, retrieved):
    """The authors' formula, with the whole matrix."""
    words = F.normalize(texts, dim=-1)
    with torch.no_grad():
        teacher = (F.normalize(target, dim=-1) @ words.T / 0.04).softmax(-1)
    student = (F.normalize(prediction, dim=-1) @ words.T / 0.1).log_softmax(-1)
    divergence = F.kl_div(student, teacher, reduction='none').sum(-1)
    counted = mask.double() * retrieved.double()[:, None]
    return (divergence * counted).sum() / (counted.sum() + 1e-6)


def test_reference(numbers):
    """The whole loss: that of the contrast and half of this one; the texts learn by the contrast alone."""
    names = ('image_embed', 'text_embed', 'masked_pred')
    images, texts, prediction = (numbers[name].requires_grad_() for name in names)
    contrastive = ContrastiveLoss()(images, texts, numbers['logit_scale'])
    first = (unit(images) @ unit(texts).T).argmax(1)
    retrieved = first == torch.arange(len(images))
    assert 100 * retrieved.double().mean().item() == pytest.approx(numbers['accuracy_percent'].item())
    target, mask = numbers['unmasked_feat'][:, 1:], numbers['mask']
    loss = LanguageReconstructionLoss()(prediction[:, 1:], target, texts, mask, retrieved)
    (contrastive + 0.5 * loss).backward()
    assert abs(0.5 * loss.item() - numbers['reconstruction_weighted'].item()) < 1e-10
    assert abs((contrastive + 0.5 * loss).item() - numbers['loss'].item()) < 1e-10
    for found, name in (
        (images, 'grad_image_embed'),
        (prediction, 'grad_masked_pred'),
        (texts, 'grad_text_embed_contrastive_only'),
    ):
        assert torch.allclose(found.grad, numbers[name], rtol=0, atol=1e-10), name


@pytest.mark.parametrize('text_gradient', [False, True])
@pytest.mark.parametrize('chunk', [1, 4, 1000])
def test_written_out_formula(text_gradient, chunk):
    parts = made()
    config = dict(type='LanguageReconstructionLoss', text_gradient=text_gradient, chunk=chunk)
    loss, expected = MODELS.build(config)(*parts), written_out(*parts)
    assert abs(loss.item() - expected.item()) < 1e-12
    wanted = torch.autograd.grad(expected, (parts[0], parts[2]))
    (3 * loss).backward()
    assert torch.allclose(parts[0].grad, 3 * wanted[0], rtol=0, atol=1e-12)
    assert parts[1].grad is None
    assert text_gradient or parts[2].grad is None
    assert not text_gradient or torch.allclose(parts[2].grad, 3 * wanted[1], rtol=0, atol=1e-12)


class LargestTensor(TorchDispatchMode):
    """Notes the elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return out


def test_the_whole_matrix_is_never_in_memory():
    parts = made(images=8, patches=64, width=16, texts=512)
    rows = int((parts[3] & parts[4][:, None]).sum())
    for loss, largest in ((LanguageReconstructionLoss(chunk=16), 16 * 512), (written_out, rows * 512)):
        with LargestTensor() as seen:
            loss(*parts).backward()
        assert seen.elements >= largest
        assert seen.elements < rows * 512 / 8 or loss is written_out


def test_no_image_finds_its_text():
    *parts, retrieved = made()
    loss = LanguageReconstructionLoss()(*parts, torch.zeros_like(retrieved))
    loss.backward()
    assert loss.item() == 0 and parts[0].grad.abs().max() == 0


def test_precision():
    prediction, target, texts, mask, retrieved = made()
    parts = [part.detach().bfloat16() for part in (prediction, target, texts)]
    with torch.autocast('cpu', torch.bfloat16):
        loss = LanguageReconstructionLoss()(*parts, mask, retrieved)
    assert loss.dtype == torch.float32
    expected = LanguageReconstructionLoss()(*(part.double() for part in parts), mask, retrieved)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_it_refuses():
    with pytest.raises(ValueError, match='must be positive'):
        LanguageReconstructionLoss(teacher_temperature=0.0)
    prediction, *others = made()
    with pytest.raises(ValueError, match=r'expected predictions and targets \(B, M, D\)'):
        LanguageReconstructionLoss()(prediction[:, 1:], *others)
