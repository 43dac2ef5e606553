"""Run the jobs of an experiment side by side; what is done is never done again."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from mmengine.fileio import dump, load
from mmengine.runner import Runner, find_latest_checkpoint
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mvp_mm import engine
from mvp_mm.hardware import has_native_bf16

CONFIGS = Path(__file__).parents[1] / 'configs'
POLL_SECONDS = 0.5


class Job(Protocol):
    """A dataclass, of plain data."""

    @property
    def name(self) -> str:
        """Unique; its result is kept under it."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the jobs whose results it reads."""


def run_jobs(
    jobs: Sequence[Job], work: str, about: Mapping[str, Any], out: Path, processes: int, *arguments: str
) -> None:
    """Run what is not done yet.

    Each job is a process, ``python -m <work> JOB LENGTH OUT [arguments]``, its output in
    ``out/logs/<job>.log``, its figures in ``out/<job>.json``. A job that was cut off goes on from its last
    checkpoint.

    Args:
        jobs: Each after what it needs.
        work: Module whose ``main`` is :func:`do_job`.
        about: The experiment's settings, ``length`` among them.
        out: Folder of the experiment; always of one length.
        processes: How many at a time.
        *arguments: Further arguments of ``work``.

    Raises:
        ValueError: If ``out`` holds an experiment of another length.
        RuntimeError: If a job fails; what others have done is kept.
    """
    _claim(out, about)
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
                    running[job] = _start(job, work, [str(about['length']), str(out), *arguments])
                progress.update(bar, description=', '.join(job.name for job in running))
                time.sleep(POLL_SECONDS)
        finally:
            for process in running.values():
                process.terminate()


def result_file(out: Path, name: str) -> Path:
    """Where a job's figures are kept."""
    return out / f'{name}.json'


def _claim(out: Path, about: Mapping[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / 'logs').mkdir(exist_ok=True)
    path = out / 'experiment.json'
    if path.exists():
        found = json.loads(path.read_text())
        if found != json.loads(json.dumps(about)):
            raise ValueError(
                f'{out} holds an experiment of length {found["length"]!r} or of other settings: choose '
                'another --out, or delete it'
            )
    path.write_text(json.dumps(about, indent=1) + '\n')


def _start(job: Any, work: str, arguments: list[str]) -> subprocess.Popen:
    command = [sys.executable, '-m', work, json.dumps(asdict(job)), *arguments]
    paths = [str(CONFIGS.parent), os.environ.get('PYTHONPATH', '')]
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=os.pathsep.join(filter(None, paths)))
    with (Path(arguments[1]) / 'logs' / f'{job.name}.log').open('a') as log:
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


def do_job(description: str | None, do: Callable[[dict[str, Any], argparse.Namespace], dict]) -> None:
    """Do the job of a command line and keep its figures, all or none.

    Args:
        description: Of the command.
        do: From the job's fields and the arguments ``length``, ``out`` and ``more`` to its figures.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('job', type=json.loads, help='a job as JSON')
    parser.add_argument('length', help='how long the experiment is')
    parser.add_argument('out', type=Path)
    parser.add_argument('more', nargs='*', help="this experiment's own")
    args = parser.parse_args()
    torch.set_num_threads(1)  # two processes of one thread are faster than one of two at this size
    fields = dict(args.job, needs=tuple(args.job['needs']))
    figures = do(fields, args)
    temporary = args.out / f'.{fields["name"]}.json'
    dump(figures, temporary, file_format='json')
    temporary.rename(result_file(args.out, fields['name']))


def runner_of(config: str, work_dir: Path, options: dict, resume: bool = False) -> Runner:
    """The runner of a config below ``configs``, in bf16 where the machine has instructions for it.

    Args:
        config: Its path there.
        work_dir: Folder of the run.
        options: Config options.
        resume: Go on from the last checkpoint of the folder, if there is one. Default False.
    """
    cfg = engine.load_config(str(CONFIGS / config), work_dir=str(work_dir), cfg_options=options)
    if has_native_bf16():
        engine.use_bf16(cfg)
    if resume:
        engine.resume_last(cfg)
    return engine.build_runner(cfg)


def last_checkpoint(out: Path, name: str) -> str:
    """The last checkpoint of a job's training, seen from ``out``, which may be moved."""
    path = Path(find_latest_checkpoint(str(out / 'work' / name)))
    return str(Path('work') / name / path.name)


def figures_of(out: Path, name: str) -> dict[str, Any]:
    """What a job that is done has found."""
    return load(result_file(out, name))
