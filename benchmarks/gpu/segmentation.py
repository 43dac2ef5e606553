"""Stage 16: UperNet's training step and sliding windows beside mmseg's own BEiT."""

import gc

import torch

from ..segmentation_variants import Segmentor
from .measure import BF16, CUDA, take_turns, warm_compiler
from .report import Report

VARIANTS = {'this package': True, "mmseg's BEiT": False}


def run(report: Report, scale: str) -> None:
    """Measure each one's memory, then let them take turns."""
    warm_compiler()
    full = scale == 'full'
    batch, rounds = (8, 6) if full else (2, 1)
    segmentors, peaks = {}, {}
    for name, ours in VARIANTS.items():
        gc.collect()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        segmentors[name] = Segmentor(batch, CUDA, BF16, ours)
        for _ in range(2):
            segmentors[name].train_step()
        torch.cuda.reset_peak_memory_stats()
        segmentors[name].train_step()
        peaks[name] = (torch.cuda.max_memory_allocated() - before) / 2**30
        report.add(f'{name}: UperNet step of {batch}, peak memory, all of it', peaks[name], 'GiB')
    ours, theirs = VARIANTS
    report.add("UperNet step, memory over that of mmseg's BEiT", peaks[ours] / peaks[theirs])
    _compare(
        report, f'UperNet step of {batch}', {n: s.train_step for n, s in segmentors.items()}, rounds, 1.2
    )
    what = 'one image of 512x683 by sliding windows'
    try:
        _compare(report, what, {n: s.slide for n, s in segmentors.items()}, rounds, None)
    except Exception as error:  # the step's findings stand
        report.add(f'{what}: cannot be measured', f'{type(error).__name__}: {str(error)[-300:]}')


def _compare(report: Report, what: str, works: dict, rounds: int, bar: float | None) -> None:
    timings = take_turns(works, rounds, warmup=2)
    for name, timing in timings.items():
        report.add(f'{name}: {what}', 1e3 * timing.median, 'ms')
    ours, theirs = (timings[name] for name in VARIANTS)
    if bar is None:
        report.add(f"{what}: times as fast as mmseg's BEiT", ours.ratio_to(theirs))
    else:
        report.at_least(f"{what}: times as fast as mmseg's BEiT", ours.ratio_to(theirs), bar)
