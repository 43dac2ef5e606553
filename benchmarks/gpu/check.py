"""Run the stages of the GPU check within a time, and write down what they find."""

import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from mvp_mm.hardware import usable_cores

from .processes import StageProcess, end_line, importable_in_children
from .report import RESULTS, TABLE, read_lines, table
from .stages import DEBUG_FACTOR, Stage

RESERVE = 4.0  # seconds kept for the table and for ending what overruns


def check_gpu(
    groups: Sequence[Sequence[Stage]], folder: Path, seconds: float, scale: str = 'full', begun: float = 0
) -> str:
    """Run stages in processes of their own; a stage that fails or overruns does not stop the others.

    Args:
        groups: Stages by groups; those of a group run at the same time.
        folder: For the results; it is made. Results of an earlier run in it are replaced.
        seconds: For all of it.
        scale: ``'full'``, or ``'debug'``: tiny, to see that everything runs.
        begun: ``time.monotonic()`` at the beginning of the command. Default: now.

    Returns:
        The table, Markdown, which is in ``folder`` as well.
    """
    deadline = (begun or time.monotonic()) + seconds - RESERVE
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULTS).unlink(missing_ok=True)
    importable_in_children()
    command = shlex.join(['python', *sys.argv])
    scratch = Path(tempfile.mkdtemp(prefix='gpu_check_'))
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        for group in groups:
            _run_group(group, folder, scratch, deadline, scale)
            text = table(folder, command, date.today().isoformat())
            (folder / TABLE).write_text(text)
    finally:
        signal.signal(signal.SIGTERM, before)
        shutil.rmtree(scratch, ignore_errors=True)
        text = table(folder, command, date.today().isoformat())
        (folder / TABLE).write_text(text)
    return text


def _run_group(group: Sequence[Stage], folder: Path, scratch: Path, deadline: float, scale: str) -> None:
    cores = usable_cores()
    threads = max(1, cores // len(group))
    os.environ['OMP_NUM_THREADS'] = str(threads)  # of Python processes that a stage begins
    running: list[StageProcess] = []
    try:
        for stage in group:
            left = deadline - time.monotonic()
            if left < (stage.seconds / 2 if scale == 'full' else 1):
                end_line(folder, stage, 'skipped', 0.0, f'{max(left, 0):.0f} s were left')
                continue
            limit = min(stage.limit * (DEBUG_FACTOR if scale == 'debug' else 1), left)
            running.append(StageProcess(stage, folder, scratch, scale, limit, threads))
        while running:
            over = [process for process in running if process.is_over()]
            running = [process for process in running if process not in over]
            for process in over:
                _tell(folder, process)
            time.sleep(0.05)
    finally:
        for process in running:
            process.kill()
            _tell(folder, process)


def _tell(folder: Path, process: StageProcess) -> None:
    """A line of progress."""
    number = process.stage.number
    own = [line for line in read_lines(folder) if line['stage'] == number]
    failed = [line['name'] for line in own if line.get('passed') is False]
    told = f'; not passed: {", ".join(failed)}' if failed else ''
    print(f'stage {number} {own[-1].get("status")}, {process.seconds:.0f} s{told}', flush=True)
    if error := own[-1].get('error'):
        print('  ' + error.strip().replace('\n', '\n  '), flush=True)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)
