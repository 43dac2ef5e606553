"""Stage 6: the kernels of one step, eager and compiled."""

from ..pretrain_variants import Compiled, Eager
from .measure import build, event_seconds, free, kernels, warm_compiler
from .report import PROFILE, Report

TOP = 25


def run(report: Report, scale: str) -> None:
    """Write the longest kernels of each to a file."""
    warm_compiler()
    batch = 256 if scale == 'full' else 2
    for made in (Compiled, Eager):
        step, _, _ = build(made, batch)
        wall = 1e3 * event_seconds(step, 5, 1)
        steps = 2
        found = kernels(step, steps)
        busy = sum(ms for *_, ms in found)
        name = made.says.rpartition(', ')[2]
        report.add(f'{name}: kernels of a step', sum(calls for _, calls, _ in found))
        report.add(f'{name}: the GPU computes', busy, 'ms a step')
        report.add(f'{name}: a step takes', wall, 'ms')
        lines = [f'{name}, batch {batch}: {busy:.2f} ms of kernels in a step of {wall:.2f} ms', '']
        lines += [f'{ms:9.3f} ms {calls:5d} calls  {key[:100]}' for key, calls, ms in found[:TOP]]
        with (report.folder / PROFILE).open('w' if made is Compiled else 'a') as file:
            file.write('\n'.join(lines) + '\n\n')
        del step
        free()
