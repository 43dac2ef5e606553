"""Stage 17: the losses of 200 steps, by this package's fast paths and by the formulas as they are written."""

from statistics import mean

from ..loss_parity import loss_curve
from .measure import warm_compiler
from .report import Report


def run(report: Report, scale: str) -> None:
    """Train the tiny student on scenes in bf16 both ways, and once more with another seed to compare with."""
    warm_compiler()
    steps = 200 if scale == 'full' else 3
    fast, plain, other = (
        loss_curve(steps, plain, seed, 'cuda', 'bfloat16')
        for plain, seed in ((False, 0), (True, 0), (True, 1))
    )
    report.add('loss of the first step', plain[0])
    report.add('mean loss of the last quarter', mean(plain[-steps // 4 :]))
    apart = [abs(a - b) for a, b in zip(fast, plain, strict=True)]
    report.add('fast against plain: largest difference of a loss', max(apart))
    of_seeds = mean(abs(a - b) for a, b in zip(plain, other, strict=True))
    report.at_most('fast against plain: mean difference of a loss', mean(apart), of_seeds / 4)
    report.add('another seed against the first: mean difference of a loss', of_seeds)
