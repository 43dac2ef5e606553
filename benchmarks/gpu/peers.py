"""Stage 10: this package's step beside those of its peers, turn by turn."""

from ..interleaved import Timing
from ..pretrain_variants import Eager, MMPretrainBEiTv2, PlainCompiled, ThisPackage, TimmAndOpenCLIP
from .eager_step import tell
from .measure import build, free, product_rate, take_turns, utilisation, warm_compiler
from .report import Report

VARIANTS = {
    'this package': ThisPackage,
    'this package, eager': Eager,
    'BEiT v2': MMPretrainBEiTv2,
    'timm + open_clip': TimmAndOpenCLIP,
    'timm + open_clip, compiled': PlainCompiled,
}
# peer: how many times as fast this package must be, and the share of its memory that it may take
BARS = {'BEiT v2': (1.6, 0.75), 'timm + open_clip, compiled': (1.15, None)}


def run(report: Report, scale: str) -> None:
    """Build all variants, measure each one's memory, then let them take turns."""
    warm_compiler()
    full = scale == 'full'
    batch, rounds = (256, 8) if full else (4, 2)
    rate = product_rate(scale)
    steps, peaks = {}, {}
    for name, made in VARIANTS.items():
        try:
            steps[name], peaks[name], seconds = build(made, batch)
        except Exception as error:  # a peer that fails must not take the others with it
            report.add(f'{name}: cannot be measured', f'{type(error).__name__}: {str(error)[-300:]}')
            free()
            continue
        report.add(f'{name}: building and three steps', seconds, 's')
        report.add(f'{name}: peak memory, all of it', peaks[name], 'GiB')
    free()
    timings = take_turns(steps, rounds)
    for name, timing in timings.items():
        tell(report, name, batch, timing.median, None, rate, flops=name != 'BEiT v2')
    ours = 'this package'
    if ours not in timings:
        return
    report.at_least(
        'share of the measured product rate', utilisation(batch, timings[ours].median, rate), 40, '%'
    )
    for name in timings:
        if name != ours:
            _compare(report, name, timings[ours], timings[name], peaks[ours] / peaks[name])


def _compare(report: Report, name: str, ours: Timing, theirs: Timing, memory: float) -> None:
    speed_bar, memory_bar = BARS.get(name, (None, None))
    for what, value, bar, write in (
        (f'times as fast as {name}', ours.ratio_to(theirs), speed_bar, report.at_least),
        (f'memory over that of {name}', memory, memory_bar, report.at_most),
    ):
        if bar is None:
            report.add(what, value)
        else:
            write(what, value, bar)
