"""Run the jobs of an experiment side by side; what is done is never done again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .plan import BUDGETS, Job

POLL_SECONDS = 0.5


def run_jobs(jobs: Sequence[Job], length: str, out: Path, processes: int) -> None:
    """Run what is not done yet.

    Each job is a process, its output in ``out/logs/<job>.log``, its figures in ``out/<job>.json``.
    A job that was cut off goes on from its last checkpoint.

    Args:
        jobs: Each after what it needs.
        length: A name of ``BUDGETS``.
        out: Folder of the experiment; always of one length.
        processes: How many at a time.

    Raises:
        ValueError: If ``out`` holds an experiment of another length.
        RuntimeError: If a job fails; what others have done is kept.
    """
    _claim(out, length)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('stopped by SIGTERM'))  # through `finally` below
    waiting = [job for job in jobs if not result_file(out, job.name).exists()]
    running: dict[Job, subprocess.Popen] = {}
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task('', total=len(jobs), completed=len(jobs) - len(waiting))
        try:
            while waiting or running:
                for job, process in list(running.items()):
                    if process.poll() is not None:
                        del running[job]
                        _require_result(job, process.returncode, out)
                        progress.advance(bar)
                ready = [job for job in waiting if all(result_file(out, need).exists() for need in job.needs)]
                for job in ready[: processes - len(running)]:
                    waiting.remove(job)
                    running[job] = _start(job, length, out)
                progress.update(bar, description=', '.join(job.name for job in running))
                time.sleep(POLL_SECONDS)
        finally:
            for process in running.values():
                process.terminate()


def result_file(out: Path, name: str) -> Path:
    """Where a job's figures are kept."""
    return out / f'{name}.json'


def _claim(out: Path, length: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / 'logs').mkdir(exist_ok=True)
    about = dict(length=length, **asdict(BUDGETS[length]))
    path = out / 'experiment.json'
    if path.exists():
        found = json.loads(path.read_text())
        if found != json.loads(json.dumps(about)):
            raise ValueError(
                f'{out} holds an experiment of length {found["length"]!r} or of other settings: choose '
                'another --out, or delete it'
            )
    path.write_text(json.dumps(about, indent=1) + '\n')


def _start(job: Job, length: str, out: Path) -> subprocess.Popen:
    command = [
        sys.executable,
        '-m',
        'experiments.miniature.work',
        json.dumps(asdict(job)),
        length,
        str(out),
    ]
    package = str(Path(__file__).parents[2])
    paths = [package, os.environ.get('PYTHONPATH', '')]
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=os.pathsep.join(filter(None, paths)))
    with (out / 'logs' / f'{job.name}.log').open('a') as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _require_result(job: Job, status: int, out: Path) -> None:
    if result_file(out, job.name).exists():
        return
    log = out / 'logs' / f'{job.name}.log'
    tail = '\n'.join(log.read_text(errors='replace').splitlines()[-15:])
    raise RuntimeError(
        f'{job.name} ended with status {status} and no result. The end of {log}:\n{tail}\nRun the same '
        'command again to go on from what is done'
    )
