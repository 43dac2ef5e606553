import pytest
import torch
from test_models.test_rils.tiny_rils import batch_of


def test_loss_is_maes(build):
    """MAE's patchify and ``norm_pix_loss``, written out."""
    model = build(type='MAECLIP')
    images, mask, tokens = batch_of(model)
    losses = model.loss(images, mask, tokens)
    pixels = images.unflatten(2, (4, 8)).unflatten(4, (4, 8)).permute(0, 2, 4, 1, 3, 5).reshape(8, 16, 192)
    mean, variance = pixels.mean(-1, keepdim=True), pixels.var(-1, keepdim=True)
    target = (pixels - mean) / (variance + 1e-6) ** 0.5
    prediction = model.decoder(model.backbone.encode_visible(images, mask), mask)[:, 1:]
    hidden = mask.flatten(1).float()
    expected = (((prediction - target) ** 2).mean(-1) * hidden).sum() / hidden.sum()
    assert losses['loss_reconstruction'].item() == pytest.approx(0.5 * expected.item(), rel=1e-5)
    assert torch.equal(losses['loss_contrastive'], build().loss(images, mask, tokens)['loss_contrastive'])


def test_it_refuses_another_loss(build):
    with pytest.raises(ValueError, match='has a loss of its own'):
        build(type='MAECLIP', reconstruction_loss=dict(type='LanguageReconstructionLoss'))
