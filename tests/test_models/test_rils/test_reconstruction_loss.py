import pytest
import torch
from mmpretrain.registry import MODELS
from torch.nn import functional as F

from benchmarks.training_memory import LiveBytes
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


@pytest.mark.parametrize('texts', [512, 1024, 4096])
def test_the_whole_matrix_is_never_in_memory(texts):
    """What lives at a time, of 8 images with 147 masked patches each: three chunks, and not the matrix."""
    peaks = {}
    for chunk in (64, 10**9):
        torch.manual_seed(0)
        prediction, target = torch.randn(2, 8, 196, 32).unbind()
        words = torch.randn(texts, 32)
        mask = torch.arange(196).expand(8, -1) < 147
        arguments = prediction.requires_grad_(), target, words, mask, torch.ones(8, dtype=torch.bool)
        with LiveBytes() as live:
            LanguageReconstructionLoss(chunk=chunk)(*arguments).backward()
        peaks[chunk] = live.peak, prediction.grad
    (small, gradient), (large, expected) = peaks.values()
    matrix, rows = 8 * 147 * texts * 4, 8 * 147 * 32 * 4
    others = 8 * rows + 3 * 8 * 196 * 32 * 4 + 2 * texts * 32 * 4  # rows, gradients, texts
    assert 3 * matrix < large < 4 * matrix + others
    assert 3 * 64 * texts * 4 < small < 4 * 64 * texts * 4 + others
    assert torch.allclose(gradient, expected, atol=1e-7)


def test_no_image_finds_its_text():
    *parts, retrieved = made()
    loss = LanguageReconstructionLoss()(*parts, torch.zeros_like(retrieved))
    loss.backward()
    assert loss.item() == 0 and parts[0].grad.abs().max() == 0


def test_precision():
    """With 4096 texts, under autocast: the errors are those of float32, not of bf16."""
    prediction, target, texts, mask, retrieved = made(images=4, patches=16, width=64, texts=4096)
    parts = [part.detach().bfloat16() for part in (prediction, target, texts)]
    exact = [part.double().requires_grad_() for part in parts]
    expected = LanguageReconstructionLoss()(*exact, mask, retrieved)
    expected.backward()
    parts = [part.float().requires_grad_() for part in parts]
    with torch.autocast('cpu', torch.bfloat16):
        loss = LanguageReconstructionLoss()(*parts, mask, retrieved)
        half = LanguageReconstructionLoss()(*(part.bfloat16() for part in parts), mask, retrieved)
    loss.backward()
    assert loss.dtype == half.dtype == torch.float32 and torch.equal(loss, half)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    error = (parts[0].grad - exact[0].grad).abs().max() / exact[0].grad.abs().max()
    assert error < 1e-5


def test_what_it_refuses():
    with pytest.raises(ValueError, match='must be positive'):
        LanguageReconstructionLoss(teacher_temperature=0.0)
    prediction, *others = made()
    with pytest.raises(ValueError, match=r'expected predictions and targets \(B, M, D\)'):
        LanguageReconstructionLoss()(prediction[:, 1:], *others)
