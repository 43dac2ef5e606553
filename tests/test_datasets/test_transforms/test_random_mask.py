import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS

from mvp_mm.datasets import RandomMask
from mvp_mm.datasets.samplers.sample_index import seeded_draws


def test_equally_many_and_every_patch_alike():
    mask = TRANSFORMS.build(dict(type='RandomMask', input_size=14))
    with seeded_draws(0):
        drawn = np.stack([mask.transform({})['mask'] for _ in range(4000)])
    assert drawn.shape == (4000, 14, 14) and drawn.dtype == bool
    assert set(drawn.sum((1, 2))) == {147}  # of 196
    share = drawn.mean(0)  # deviates by 0.0068 = sqrt(0.75 * 0.25 / 4000)
    assert np.abs(share - 0.75).max() < 5 * 0.0068
    pairs = (drawn[:, 0, 0] & drawn[:, 7, 7]).mean()  # drawn without putting back
    assert pairs == pytest.approx(147 / 196 * 146 / 195, abs=0.04)


def test_draws_are_seeded_by_the_sample():
    mask, masks = RandomMask((4, 6), 0.5), []
    for seeds in ((0, 1, 2), (0, 1, 2), (0, 1, 3)):
        with seeded_draws(*seeds):
            masks.append(mask.transform(dict(img=1)))
    assert masks[0]['img'] == 1 and masks[0]['mask'].shape == (4, 6) and masks[0]['mask'].sum() == 12
    assert (masks[0]['mask'] == masks[1]['mask']).all() and (masks[0]['mask'] != masks[2]['mask']).any()


def test_as_many_stay_as_in_mae():
    for ratio, stay in ((0.75, 12), (0.8, 9), (0.6, 19)):
        assert 49 - RandomMask(7, ratio).num_masked == stay == int(49 * (1 - ratio))
    for ratio in (-0.1, 1.0, 1.5):
        with pytest.raises(ValueError, match='not all of them'):
            RandomMask(7, ratio)


def test_nothing_is_masked():
    assert not RandomMask(7, 0.0).transform({})['mask'].any()
