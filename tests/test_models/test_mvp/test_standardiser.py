import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mvp_mm.models.mvp.standardiser import LEAST_DEVIATION, Standardiser, hadamard


def batches(count=3, width=4, tokens=7, size=5):
    """Targets whose dimensions differ in mean and scale and depend on one another."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=generator) * torch.logspace(-1, 1, width)
    return [
        torch.randn(size, tokens, width, generator=generator) @ mixing + torch.arange(width)
        for _ in range(count)
    ]


def test_by_hand():
    """Two images, CLS and one patch each, two dimensions."""
    standardiser = Standardiser(2, 'dimensions', 1)
    targets = torch.tensor([[[1.0, 10.0], [0.0, 3.0]], [[3.0, 30.0], [8.0, 3.0]]])
    found = standardiser(targets, 1)
    assert standardiser.mean.tolist() == [[2.0, 20.0], [4.0, 3.0]]
    # deviations 1 and 10 of CLS, 4 and 0 of patches; the last is raised to a thousandth of their mean, 2
    assert torch.allclose(standardiser.scale, torch.tensor([[1.0, 10.0], [4.0, 2 * LEAST_DEVIATION]]))
    assert torch.allclose(found, torch.tensor([[[-1.0, -1], [-1, 0]], [[1, 1], [1, 0]]]))


def test_dimensions_are_numpys_mean_and_deviation():
    standardiser, seen = Standardiser(4, 'dimensions', 2), batches()
    for targets in seen:  # the third is not counted
        found = standardiser(targets, 1)
    patches = torch.cat(seen[:2])[:, 1:].flatten(0, 1).double().numpy()
    assert standardiser.mean[1].numpy() == pytest.approx(patches.mean(0), rel=1e-5)
    assert standardiser.scale[1].numpy() == pytest.approx(patches.std(0), rel=1e-5)
    expected = (seen[2][:, 1:].numpy() - patches.mean(0)) / patches.std(0)
    assert np.allclose(found[:, 1:].numpy(), expected, atol=1e-4) and found.dtype == torch.float32


def test_phi_s_is_the_papers_formula():
    """z = H Uᵀ (g - μ) / φ, of the covariance by numpy, and variance 1 in every dimension."""
    standardiser, seen = Standardiser(4, 'phi-s', 2), batches()
    first = standardiser(seen[0], 1)  # not rotated yet: one scale for all dimensions
    patches = seen[0][:, 1:].flatten(0, 1).double().numpy()
    phi = np.sqrt(np.trace(np.cov(patches.T, bias=True)) / 4)
    assert np.allclose(first[:, 1:].flatten(0, 1).numpy(), (patches - patches.mean(0)) / phi, atol=1e-4)
    standardiser(seen[1], 1)
    standardiser.eval()
    for kind, part in ((0, slice(0, 1)), (1, slice(1, None))):
        rows = torch.cat(seen[:2])[:, part].flatten(0, 1).double().numpy()
        values, axes = np.linalg.eigh(np.cov(rows.T, bias=True))
        expected = (rows - rows.mean(0)) @ axes @ hadamard(4).numpy().T / np.sqrt(values.mean())
        found = torch.cat([standardiser(targets, 1) for targets in seen[:2]])[:, part].flatten(0, 1).numpy()
        # an eigenvector's sign is free, which H spreads; lengths and the unit variance are not
        assert np.allclose((found**2).sum(1), (expected**2).sum(1), rtol=1e-3)
        assert np.allclose(found.var(0), 1, atol=1e-3) and np.allclose(found.mean(0), 0, atol=1e-4)
        rotation = standardiser.rotation[kind].double().numpy()
        assert np.allclose(np.abs(rotation @ axes), 0.5, atol=1e-4)  # H of order 4


@pytest.mark.parametrize('method', ['dimensions', 'phi-s'])
def test_restores_the_direction(method):
    """Of a perfect prediction, whose length the loss does not train."""
    standardiser, seen = Standardiser(128, method, 2), batches(2, 128, 40)
    for targets in seen:
        standardised = standardiser(targets, 1)
    restored = standardiser.restore(3.7 * standardised[:, 1:], 1)
    assert F.cosine_similarity(restored, seen[1][:, 1:], dim=-1).min() > 0.9
    length = standardised[:, 1:].norm(dim=-1, keepdim=True) / 128**0.5
    exact = standardiser.restore(standardised[:, 1:], 1) - standardiser.mean[1]
    assert torch.allclose(exact * length, seen[1][:, 1:] - standardiser.mean[1], rtol=1e-2, atol=1e-2)


def test_targets_without_cls():
    standardiser = Standardiser(4, 'dimensions', 1)
    (targets,) = batches(1)
    found = standardiser(targets, 0)
    assert torch.allclose(found.mean((0, 1)), torch.zeros(4), atol=1e-5)
    assert not standardiser.moments[0].any()


@pytest.mark.parametrize('method', ['dimensions', 'phi-s'])
def test_restart_is_exact(method):
    seen, whole = batches(4), Standardiser(4, method, 3)
    expected = [whole(targets, 1) for targets in seen]
    cut = Standardiser(4, method, 3)
    for targets in seen[:2]:
        cut(targets, 1)
    rest = Standardiser(4, method, 3)
    rest.load_state_dict(cut.state_dict())
    for targets, target in zip(seen[2:], expected[2:], strict=True):
        assert torch.equal(rest(targets, 1), target)
    assert all(torch.equal(value, rest.state_dict()[name]) for name, value in whole.state_dict().items())


def test_evaluation_and_bad_batches_are_not_counted():
    standardiser, seen = Standardiser(4, 'dimensions', 2), batches(2)
    standardiser(seen[0], 1)
    before = standardiser.moments.clone()
    standardiser.eval()(seen[1], 1)
    standardiser.train()(torch.full_like(seen[1], torch.nan), 1)
    assert torch.equal(standardiser.moments, before) and standardiser.mean.isfinite().all()


def test_errors():
    with pytest.raises(ValueError, match="standardise='white' is none of 'dimensions', 'phi-s'"):
        Standardiser(4, 'white', 1)
    with pytest.raises(ValueError, match='one batch or more'):
        Standardiser(4, 'dimensions', 0)
    with pytest.raises(ValueError, match="order 92 .*standardise='dimensions'"):
        Standardiser(92, 'phi-s', 1)


@pytest.mark.slow
def test_two_ranks_equal_the_joined_batch(tmp_path):
    """Two gloo processes with half of each batch have the statistics of whole ones, the same bits in both.

    Under DDP, which waits for a gradient of every parameter, so are steps with teachers left out.
    """
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2', '--standalone']
    script = Path(__file__).with_name('standardiser_ranks.py')
    env = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    done = subprocess.run([*command, str(script), str(tmp_path)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    ranks = [json.loads((tmp_path / f'found{rank}.json').read_text()) for rank in range(2)]
    for rank in ranks:
        assert rank['steps']['differences'] < 1e-5 < 1e-3 < rank['steps']['moved']
        assert rank['steps']['counted'] == 5
    for method in ('dimensions', 'phi-s'):
        whole = Standardiser(4, method, 2)
        for targets in batches(2, size=6):
            whole(targets, 1)
        for name, value in whole.state_dict().items():
            found = torch.tensor(ranks[0][method][name])
            assert ranks[0][method][name] == ranks[1][method][name], name
            if name == 'rotation':  # up to the signs of eigenvectors, which rounding may turn
                value, found = value @ value.mT, found @ found.mT
            assert torch.allclose(found.double(), value.double(), rtol=1e-6, atol=1e-6), name


@pytest.mark.parametrize('order', [1, 2, 4, 12, 20, 24, 44, 96, 128, 384, 768, 1152])
def test_is_orthogonal_with_equal_entries(order):
    matrix = hadamard(order)
    assert torch.allclose(matrix @ matrix.T, torch.eye(order, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(matrix.abs(), torch.full_like(matrix, order**-0.5), atol=1e-14)


def test_paleys_of_order_4():
    """1 is the square modulo 3."""
    rows = [[1, 1, 1, 1], [-1, 1, -1, 1], [-1, 1, 1, -1], [-1, -1, 1, 1]]
    assert torch.equal(hadamard(4) * 2, torch.tensor(rows, dtype=torch.float64))


@pytest.mark.parametrize('order', [3, 6, 92, 100])
def test_others_are_refused(order):
    with pytest.raises(ValueError, match=f'order {order}'):
        hadamard(order)
