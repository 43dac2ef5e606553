"""Whole trainings, by the tools that users call, and what they log."""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from faults.training_process import TrainingProcess

from .processes import ROOT, run_tool
from .report import Report

CONFIGS = ROOT / 'mvp_mm' / '.mim' / 'configs'


def begin_training(
    report: Report, arguments: Sequence[str], environment: dict[str, str] | None = None
) -> TrainingProcess:
    """``tools/train.py`` in a process of its own; this one must not have touched the GPU yet.

    Args:
        report: Whose log takes the output.
        arguments: Of the command line.
        environment: Variables to set.

    Returns:
        The process.
    """

    def call() -> None:
        os.environ.update(environment or {})
        run_tool('train.py', arguments)

    return TrainingProcess(call, report.log)


def options(**values: object) -> list[str]:
    """``--cfg-options`` with dots in place of double underscores."""
    return ['--cfg-options', *(f'{name.replace("__", ".")}={value}' for name, value in values.items())]


def wait_for(condition: Callable[[], bool], process: TrainingProcess, seconds: float = 600) -> bool:
    """Wait until something is so or a process is over; say whether it is so."""
    limit = time.monotonic() + seconds
    while not condition():
        if process.is_over() or time.monotonic() > limit:
            return condition()
        time.sleep(0.01)
    return True


def scalars(work_dir: Path) -> list[dict]:
    """What a training has logged, in order; of several runs in a folder all."""
    lines = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:  # being written
                continue
    return lines


def logged(work_dir: Path, key: str) -> list[float]:
    """The values of one name."""
    return [line[key] for line in scalars(work_dir) if key in line]


def steady(values: Sequence[float], skip: int = 2) -> float:
    """The median without the first ones; NaN if there is none."""
    kept = values[skip:] or values
    return median(kept) if kept else float('nan')
