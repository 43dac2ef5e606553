import pytest
import torch
from torch.nn import functional as F

from mvp_mm.models import CoCoOp, CoOp
from mvp_mm.models.prompts import cocoop

NAMES = ('red circle', 'star', 'big blue star')


def test_the_image_shifts_all_context_vectors(tower):
    learner = CoCoOp(tower, init='a photo', closing='')
    images = F.normalize(torch.randn(4, 32), dim=-1)
    net = learner.meta_net
    assert (net.linear1.in_features, net.linear1.out_features, net.linear2.out_features) == (32, 2, 16)
    hidden = (images @ net.linear1.weight.T + net.linear1.bias).clamp(min=0)
    shifts = hidden @ net.linear2.weight.T + net.linear2.bias
    plain, expected = CoOp(tower, init='a photo', closing=''), []
    for shift in shifts:
        plain.context.data = (learner.context + shift).detach()
        expected.append(plain(NAMES))
    found = learner(NAMES, images)
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-6)
    assert (found[0] - found[1]).abs().max() > 1e-4


def test_images_in_parts(tower, monkeypatch):
    learner = CoCoOp(tower, init='a photo', closing='')
    images = F.normalize(torch.randn(5, 32), dim=-1)
    whole = learner(NAMES, images)
    monkeypatch.setattr(cocoop, 'MAX_PROMPTS', 6)  # of two images
    torch.testing.assert_close(learner(NAMES, images), whole, rtol=0, atol=1e-6)


def test_only_the_learner_learns(tower):
    learner = CoCoOp(tower, init='a', closing='')
    learner(NAMES, F.normalize(torch.randn(2, 32), dim=-1))[..., 0].sum().backward()
    assert set(learner.state_dict()) == {
        'context',
        *(f'meta_net.linear{number}.{part}' for number in (1, 2) for part in ('weight', 'bias')),
    }
    assert all(parameter.grad is not None for parameter in learner.parameters())
    assert all(parameter.grad is None for parameter in tower.encoder.parameters())


def test_there_are_no_fixed_embeddings(tower):
    with pytest.raises(ValueError, match='the prompts of CoCoOp depend on the image'):
        CoCoOp(tower, init='a', closing='')(NAMES)
