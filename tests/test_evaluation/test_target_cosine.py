import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchrun_jobs import forked

from mvp_mm.evaluation import TargetCosine
from mvp_mm.evaluation.target_cosine import figures, token_sums


def tokens(count=6, length=5, width=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(count, length, width, generator=generator) + 1
    pred = torch.randn(count, length, width, generator=generator)
    mask = torch.rand(count, length - 1, generator=generator) < 0.5
    return pred, target, mask


class Predictions(torch.nn.Module):
    """Predicts what its input says: no network."""

    def data_preprocessor(self, batch, training):
        return batch

    def forward(self, inputs, mask, mode):
        assert mode == 'predict'
        return inputs[:, 0], inputs[:, 1]


def evaluated(pred, target, mask, batch):
    samples = [
        dict(inputs=torch.stack(pair), mask=m)
        for *pair, m in zip(pred.unbind(), target.unbind(), mask.unbind(), strict=True)
    ]
    return TargetCosine(DataLoader(samples, batch_size=batch)).evaluate(Predictions())


def test_figures():
    pred, target, mask = tokens()
    found = evaluated(pred, target, mask, batch=6)
    cosines = F.cosine_similarity(pred, target, dim=-1)
    assert found['cosine'] == pytest.approx(cosines.mean().item(), abs=1e-6)
    assert found['cls'] == pytest.approx(cosines[:, 0].mean().item(), abs=1e-6)
    assert found['masked'] == pytest.approx(cosines[:, 1:][mask].mean().item(), abs=1e-6)
    assert found['visible'] == pytest.approx(cosines[:, 1:][~mask].mean().item(), abs=1e-6)
    assert found['shuffled'] == pytest.approx(
        F.cosine_similarity(pred, target.roll(1, 0), dim=-1).mean().item(), abs=1e-6
    )
    best = F.normalize(target, dim=-1).mean(0)
    constant = F.cosine_similarity(best.expand_as(target), target, dim=-1).mean().item()
    assert found['constant'] == pytest.approx(constant, abs=1e-6)
    assert found['excess'] == pytest.approx(found['cosine'] - constant, abs=1e-6)


def test_constant_is_the_best_constant():
    pred, target, mask = tokens(count=40)
    best = figures(token_sums(pred, target, mask))['constant']
    for seed in range(20):
        guess = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        assert F.cosine_similarity(guess.expand_as(target), target, dim=-1).mean().item() <= best + 1e-6


def test_batches_are_summed():
    pred, target, mask = tokens()
    whole, halves = evaluated(pred, target, mask, batch=6), evaluated(pred, target, mask, batch=3)
    whole.pop('shuffled'), halves.pop('shuffled')  # the other image is one of the batch
    assert halves == pytest.approx(whole, abs=1e-6)


def test_a_model_without_targets_is_refused():
    with pytest.raises(ValueError, match=r'TargetCosine: a Linear has no predict\(inputs, mask\)'):
        TargetCosine(None).require(torch.nn.Linear(1, 1))


def test_without_cls():
    pred, target, mask = (part[:, 1:] for part in tokens(length=6))
    found = figures(token_sums(pred, target, torch.cat([mask, mask[:, :1]], 1)))
    assert 'cls' not in found
    cosines = F.cosine_similarity(pred, target, dim=-1)
    assert found['cosine'] == pytest.approx(cosines.mean().item(), abs=1e-6)


def of_a_process(size):
    torch.distributed.init_process_group('gloo')
    return evaluated(*tokens(size), batch=2)


def test_two_processes_count_each_image_once():
    """Five images in batches of two: MMEngine's sampler would count one twice."""
    expected = evaluated(*tokens(5), batch=2)
    for found in forked(of_a_process, 5):
        assert found == pytest.approx(expected, rel=1e-12)
