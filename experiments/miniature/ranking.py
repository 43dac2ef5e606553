"""Which quantity, read after a tenth of a training, ranks runs by the segmentation they will come to?

A rule is fixed on some guidances and tested on others: the quantity, and its sign, with the largest rank
correlation on the first are applied to the second.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

DRAWS = 2000  # of the bootstrap
LEVEL = 95  # percent of the draws inside an interval


@dataclass(frozen=True)
class Run:
    """One pre-training.

    Args:
        guidance: A name of ``PRETRAININGS``.
        seed: Its seed.
        early: Quantities after a tenth of the training, by name.
        miou: Of the segmentation that it came to, in percent.
    """

    guidance: str
    seed: int
    early: Mapping[str, float]
    miou: float


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation, with the interval of a bootstrap over guidances (all seeds of each)."""

    rho: float
    low: float
    high: float
    runs: int

    def __str__(self) -> str:
        return f'{self.rho:+.2f} [{self.low:+.2f}, {self.high:+.2f}]'


def rank_correlation(runs: Sequence[Run], quantity: str) -> Correlation:
    """Correlate a quantity with the mIoU over the runs that have it."""
    having = [run for run in runs if quantity in run.early]
    values = np.array([(run.early[quantity], run.miou) for run in having])
    names = np.array([run.guidance for run in having])
    groups = [np.flatnonzero(names == name) for name in np.unique(names)]
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(DRAWS):
        chosen = generator.integers(0, len(groups), len(groups))
        draws.append(_spearman(values[np.concatenate([groups[number] for number in chosen])]))
    known = [draw for draw in draws if not math.isnan(draw)] or [math.nan]
    low, high = np.percentile(known, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return Correlation(_spearman(values), float(low), float(high), len(having))


def _spearman(values: np.ndarray) -> float:
    """Correlate the ranks of two columns; NaN where one does not vary."""
    first, second = (rankdata(column) for column in values.T)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def _of_runs(runs: Sequence[Run], quantity: str) -> float:
    return _spearman(np.array([(run.early[quantity], run.miou) for run in runs]))


def best_quantity(runs: Sequence[Run]) -> str:
    """Return the quantity that all runs have with the largest absolute rank correlation."""
    common = set.intersection(*(set(run.early) for run in runs))
    scores = {name: abs(_of_runs(runs, name)) for name in sorted(common)}
    return max(scores, key=lambda name: -1.0 if math.isnan(scores[name]) else scores[name])


def right_pairs(runs: Sequence[Run], quantity: str, sign: float, margin: float = 0.0) -> tuple[int, int]:
    """Count pairs of runs that a quantity orders as their mIoU does, of those over ``margin`` apart."""
    right = total = 0
    ordered = sorted(runs, key=lambda run: run.miou)
    for number, worse in enumerate(ordered):
        for better in ordered[number + 1 :]:
            if better.miou - worse.miou > margin:
                total += 1
                right += sign * (better.early[quantity] - worse.early[quantity]) > 0
    return right, total


def report(fixed: Sequence[Run], tested: Sequence[Run]) -> str:
    """Format all quantities' correlations, and the rule with its test, as Markdown."""
    names = sorted({name for run in [*fixed, *tested] for name in run.early})
    lines = ['| after a tenth | fixed on | tested on | all |', '|---|---|---|---|']
    for name in names:
        cells = [
            str(rank_correlation(runs, name)) if sum(name in run.early for run in runs) > 2 else ''
            for runs in (fixed, tested, [*fixed, *tested])
        ]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    rule = best_quantity(fixed)
    sign = np.sign(_of_runs(fixed, rule))
    right, total = right_pairs(tested, rule, sign)
    lines += ['', f'The rule: {"more" if sign > 0 else "less"} of {rule}.']
    lines += [f'It orders {right} of {total} pairs of the tested runs as their segmentation does.']
    return '\n'.join(lines)
