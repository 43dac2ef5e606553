import math

import pytest

from experiments.miniature import ranking
from experiments.miniature.ranking import Run, best_quantity, rank_correlation, report, right_pairs

MIOU = {'pixel': 27, 'dino': 25, 'clip': 36, 'clip-kk': 38}
# `rank` follows the mIoU but for one exchange, `cosine` says nothing, `cls` exists for CLIP only.
RANK = {'pixel': 3.0, 'dino': 4.0, 'clip': 20.0, 'clip-kk': 30.0}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(ranking, 'DRAWS', 100)


def runs():
    return [
        Run(
            name,
            seed,
            dict(rank=RANK[name] + seed / 10, cosine=0.8)
            | (dict(cls=0.1 * seed) if name.startswith('clip') else {}),
            miou + seed,
        )
        for name, miou in MIOU.items()
        for seed in (0, 1)
    ]


def test_correlation_is_spearmans():
    # ranks of the quantity 3 and 4 against 1 and 2 for two runs each: 1 - 6 * (4 * 4) / (8 * 63)
    found = rank_correlation(runs(), 'rank')
    assert found.rho == pytest.approx(1 - 6 * 16 / (8 * 63))
    assert found.low <= found.rho <= found.high and found.runs == 8
    assert math.isnan(rank_correlation(runs(), 'cosine').rho)
    assert rank_correlation(runs(), 'cls').runs == 4


def test_the_rule_is_one_that_all_runs_have_and_is_tested_on_others():
    assert best_quantity(runs()) == 'rank'
    assert right_pairs(runs(), 'rank', 1) == (24, 28)  # all but pixel against dino
    assert right_pairs(runs(), 'rank', -1) == (4, 28)
    assert right_pairs(runs(), 'rank', 1, margin=3) == (16, 16)
    text = report(runs()[:4], runs()[4:])
    assert 'The rule: less of rank.' in text and 'It orders 0 of 6 pairs' in text
