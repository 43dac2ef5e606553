import inspect
import math
import random

import numpy as np
import pytest
from mmpretrain.datasets.transforms import BEiTMaskGenerator
from mmpretrain.registry import TRANSFORMS

from mvp_mm.datasets import BlockwiseMask

PAPER = dict(input_size=14, num_masking_patches=75, min_num_patches=16)


def simulate_beit(draws, side=14, wanted=75, smallest=16, seed=0):
    """BEiT's rule for many masks at a time: ``(draws, side, side)``, those short of the wanted number too.

    Every active mask tries one block a turn; after ten turns without a block it stays as it is.
    """
    rng = np.random.default_rng(seed)
    masks = np.zeros((draws, side, side), bool)
    failed = np.zeros(draws, int)
    active = np.arange(draws)
    cells = np.arange(side)
    while len(active):
        left = wanted - masks[active].sum((1, 2))
        area = rng.uniform(np.minimum(smallest, left), np.maximum(smallest, left))
        aspect = np.exp(rng.uniform(math.log(0.3), -math.log(0.3), len(active)))
        height = np.rint(np.sqrt(area * aspect)).astype(int)[:, None]
        width = np.rint(np.sqrt(area / aspect)).astype(int)[:, None]
        top = rng.integers(0, np.maximum(side - height, 0) + 1)  # both ends included
        first = rng.integers(0, np.maximum(side - width, 0) + 1)
        rows = (cells >= top) & (cells < top + height)
        cols = (cells >= first) & (cells < first + width)
        joined = masks[active] | (rows[:, :, None] & cols[:, None, :])
        added = joined.sum((1, 2)) - (wanted - left)
        fits = (height[:, 0] < side) & (width[:, 0] < side) & (added > 0) & (added <= left)
        masks[active[fits]] = joined[fits]
        failed[active] = np.where(fits, 0, failed[active] + 1)
        active = active[(failed[active] < 10) & (masks[active].sum((1, 2)) < wanted)]
    return masks


@pytest.fixture(scope='module')
def drawn():
    random.seed(0)
    mask = BlockwiseMask(**PAPER)
    return np.stack([mask.draw() for _ in range(10_000)])


@pytest.mark.parametrize(
    ('size', 'count', 'smallest', 'draws'),
    [
        (14, 75, 16, 2000),
        (8, 24, 5, 2000),
        ((10, 16), 60, 16, 1000),
        ((3, 20), 20, 4, 1000),
        (14, 0, 16, 20),
        (14, 1, 16, 500),
        (14, 196, 16, 20),
        ((5, 7), 34, 4, 100),
        (1, 1, 1, 5),
    ],
)
def test_exact_count(size, count, smallest, draws):
    random.seed(1)
    mask = BlockwiseMask(size, count, min_num_patches=smallest)
    grid = (size, size) if isinstance(size, int) else size
    for _ in range(draws):
        drawn = mask.draw()
        assert drawn.dtype == bool
        assert drawn.shape == grid
        assert drawn.sum() == count


def test_coverage_follows_beit(drawn):
    assert (drawn.sum((1, 2)) == 75).all()
    masks = simulate_beit(60_000)
    reached = masks.sum((1, 2)) == 75
    assert reached.mean() == pytest.approx(0.66, abs=0.01)
    assert np.abs(drawn.mean(0) - masks[reached].mean(0)).max() < 0.02


def unfinished_counts():
    """How many patches BEiT's rule masks before ours starts anew."""
    random.seed(2)
    mask = BlockwiseMask(**PAPER)
    return np.array([mask._blocks()[1] for _ in range(20_000)])


def test_share_of_full_masks_follows_beit():
    counts, expected = unfinished_counts(), simulate_beit(20_000, seed=1).sum((1, 2))
    assert (counts == 75).mean() == pytest.approx((expected == 75).mean(), abs=0.02)
    assert counts.mean() == pytest.approx(expected.mean(), abs=0.1)
    assert counts.min() >= 59  # less than the smallest target area is left to mask


def test_coverage_against_reference(drawn, reference):
    expected = np.load(reference / 'block_mask_coverage.npz')
    assert np.abs(drawn.mean(0) - expected['coverage_given_75']).max() < 0.02
    counts = unfinished_counts()
    histogram = expected['count_histogram'] / expected['count_histogram'].sum()
    assert np.abs(np.bincount(counts, minlength=76) / len(counts) - histogram).max() < 0.015


def test_borders_are_symmetric(drawn):
    coverage = drawn.mean(0)
    assert coverage[0].mean() == pytest.approx(coverage[-1].mean(), abs=0.01)
    assert coverage[:, 0].mean() == pytest.approx(coverage[:, -1].mean(), abs=0.01)
    assert coverage[0].mean() == pytest.approx(coverage[:, 0].mean(), abs=0.01)
    assert np.abs(coverage - coverage[::-1]).max() < 0.025
    assert np.abs(coverage - coverage[:, ::-1]).max() < 0.025
    assert coverage[-1].min() > 0.02  # mmpretrain's generator never masks these


def test_non_square_grid_is_not_transposed():
    random.seed(3)
    mask = BlockwiseMask((6, 18), 40, min_num_patches=4)
    coverage = np.mean([mask.draw() for _ in range(1000)], axis=0)
    assert coverage.shape == (6, 18)
    assert coverage[:, -1].min() > 0
    assert coverage[-1].min() > 0


def test_deterministic_given_the_seed():
    mask = BlockwiseMask(**PAPER)
    random.seed(7)
    first = [mask.draw() for _ in range(5)]
    np.random.seed(1)  # of no influence
    random.seed(7)
    again = [mask.draw() for _ in range(5)]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not (first[0] == first[1]).all()


def test_takes_the_arguments_of_mmpretrain():
    ours = inspect.signature(BlockwiseMask).parameters
    theirs = inspect.signature(BEiTMaskGenerator).parameters
    assert list(ours) == list(theirs)
    assert [p.default for p in ours.values()] == [p.default for p in theirs.values()]
    arguments = dict(
        input_size=(14, 14),
        num_masking_patches=75,
        min_num_patches=16,
        max_num_patches=None,
        min_aspect=0.3,
        max_aspect=None,
    )
    BEiTMaskGenerator(**arguments)
    mask = TRANSFORMS.build(dict(type='BlockwiseMask', **arguments))
    results = mask(dict(img_path='x'))
    assert results['mask'].sum() == 75
    assert results['img_path'] == 'x'


def test_largest_block():
    random.seed(4)
    mask = BlockwiseMask(14, 75, min_num_patches=2, max_num_patches=3)
    assert mask.draw().sum() == 75
    single = BlockwiseMask(14, 3, min_num_patches=2, max_num_patches=3)
    for _ in range(50):
        rows, cols = np.nonzero(single.draw())
        assert len(rows) == 3


def test_errors():
    with pytest.raises(ValueError, match=r'cannot mask 197 patches of a 14x14 grid, which has 196'):
        BlockwiseMask(14, 197)
    with pytest.raises(ValueError, match='cannot mask 75 patches of a 8x9 grid'):
        BlockwiseMask((8, 9), 75)
    with pytest.raises(ValueError, match='cannot mask -1'):
        BlockwiseMask(14, -1)
    with pytest.raises(ValueError, match='min_num_patches=0'):
        BlockwiseMask(14, 75, min_num_patches=0)
    with pytest.raises(ValueError, match='min_aspect=0'):
        BlockwiseMask(14, 75, min_aspect=0)
