import pytest
import torch
from mmpretrain.structures import DataSample
from torch.nn import functional as F

from mvp_mm.evaluation import TargetCosine


def samples(count=6, tokens=5, width=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(count, tokens, width, generator=generator) + 1
    pred = torch.randn(count, tokens, width, generator=generator)
    mask = torch.rand(count, tokens - 1, generator=generator) < 0.5
    listed = []
    for i in range(count):
        sample = DataSample()
        sample.set_field(F.cosine_similarity(pred[i], target[i], dim=-1), 'cosines')
        sample.set_field(F.cosine_similarity(pred[i], target[i - 1], dim=-1), 'shuffled_cosines')
        sample.set_field(F.normalize(target[i], dim=-1), 'unit_targets')
        sample.set_field(mask[i], 'token_mask')
        listed.append(sample)
    return listed, pred, target, mask


def test_figures():
    listed, pred, target, mask = samples()
    metric = TargetCosine()
    metric.process({}, listed[:2])
    metric.process({}, listed[2:])
    figures = metric.compute_metrics(metric.results)
    cosines = F.cosine_similarity(pred, target, dim=-1)
    assert figures['cosine'] == pytest.approx(cosines.mean().item(), abs=1e-6)
    assert figures['cls'] == pytest.approx(cosines[:, 0].mean().item(), abs=1e-6)
    assert figures['masked'] == pytest.approx(cosines[:, 1:][mask].mean().item(), abs=1e-6)
    assert figures['visible'] == pytest.approx(cosines[:, 1:][~mask].mean().item(), abs=1e-6)
    assert figures['shuffled'] == pytest.approx(
        F.cosine_similarity(pred, target.roll(1, 0), dim=-1).mean().item(), abs=1e-6
    )
    best = F.normalize(target, dim=-1).mean(0)
    constant = F.cosine_similarity(best.expand_as(target), target, dim=-1).mean().item()
    assert figures['constant'] == pytest.approx(constant, abs=1e-6)
    assert figures['excess'] == pytest.approx(figures['cosine'] - constant, abs=1e-6)


def test_constant_is_the_best_constant():
    listed, _, target, _ = samples(count=40)
    metric = TargetCosine()
    metric.process({}, listed)
    best = metric.compute_metrics(metric.results)['constant']
    for seed in range(20):
        guess = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        assert F.cosine_similarity(guess.expand_as(target), target, dim=-1).mean().item() <= best + 1e-6


def test_processes_are_summed():
    listed, *_ = samples()
    whole, first, second = TargetCosine(), TargetCosine(), TargetCosine()
    whole.process({}, listed)
    first.process({}, listed[:4])
    second.process({}, listed[4:])
    joined = whole.compute_metrics(first.results + second.results)
    assert joined == pytest.approx(whole.compute_metrics(whole.results), abs=1e-9)
    assert len(first.results) == 1  # memory does not grow with the data
