"""Stage 5: what the card can do, and an eager step beside it."""

import torch

from ..pretrain_variants import Eager
from .measure import build, copy_rate, event_seconds, free, product_rate, synchronisations, utilisation
from .report import Report


def run(report: Report, scale: str) -> None:
    """Rates of products and copies, then eager steps at three batch sizes."""
    rate = product_rate(scale)
    report.add('product of 8192³, bf16', rate / 1e12, 'TFLOP/s')
    report.add('copy on the device, read and written', copy_rate(scale) / 1e12, 'TB/s')
    full = scale == 'full'
    for batch in (256, 128, 512) if full else (4, 2):
        try:
            step, peak, _ = build(Eager, batch)
        except torch.OutOfMemoryError:
            report.add(f'eager step of {batch}', 'out of memory')
            free()
            continue
        seconds = event_seconds(step, 10 if full else 2, 2)
        tell(report, f'eager step of {batch}', batch, seconds, peak, rate)
        if batch in (256, 4):
            found = synchronisations(step)
            report.at_most('synchronising calls of a step', len(found), 1)
            report.add('where it waits', ', '.join(found) or 'nowhere')
        del step
        free()


def tell(
    report: Report, name: str, batch: int, seconds: float, peak: float | None, rate: float, flops: bool = True
) -> None:
    """Write what a step takes."""
    report.add(f'{name}: time', 1e3 * seconds, 'ms')
    report.add(f'{name}: rate', batch / max(seconds, 1e-9), 'images/s')
    if flops:
        report.add(f'{name}: share of the measured product rate', utilisation(batch, seconds, rate), '%')
    if peak is not None:
        report.add(f'{name}: peak memory, all of it', peak, 'GiB')
