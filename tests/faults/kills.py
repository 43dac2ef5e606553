"""SIGKILL in the middle of trainings, and what becomes of them after ``--resume``."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import eq
from pathlib import Path

from mmengine.config import Config

from .phase_hook import PHASES, Position, read_position, trained_samples
from .tiny_run import difference, digest, last_checkpoint, tiny_config, write_photographs
from .training_process import TOOLS, TrainingProcess, run_tool

KILLED_IN = ('step', 'save', 'evaluation')  # by turns
IMAGES = 64  # of a run
LONGEST = 600.0  # seconds for a run of seconds: more is a hang
POLL_SECONDS = 0.0005


@dataclass(frozen=True)
class Outcome:
    """What came of one fault.

    Args:
        fault: Where it hit: the phase in which the (first) process was, or the bytes that were left.
        done: Iterations that were done then; -1 where that does not apply.
        went_on_from: Iterations that the restarted run began with.
        difference: How weights and optimiser at the end, or the samples of an iteration, differ from those of
            the undisturbed run; '' if they are the same, bit for bit.
        seconds: From the fault until a process was training again; 0 where that does not apply.
    """

    fault: str
    done: int
    went_on_from: int
    difference: str
    seconds: float = 0.0

    @property
    def same(self) -> bool:
        """Whether it ended as the undisturbed run did."""
        return not self.difference


@dataclass(frozen=True)
class Baseline:
    """The run that all others are compared with.

    Args:
        config: Its config file.
        work_dir: Its folder.
        digest: Of its last checkpoint.
        position: Its last position, with how long it was in which phase.
        seconds: From its start to its end.
        processes: How many.
    """

    config: Path
    work_dir: Path
    digest: str
    position: Position
    seconds: float
    processes: int = 1

    def samples(self, work_dir: Path) -> list:
        """What each process trained on in a run like this one."""
        return [trained_samples(work_dir, rank) for rank in range(self.processes)]


def run_baseline(
    folder: Path, processes: int = 1, epochs: int = 3, adapt: Callable[[Config], None] = lambda config: None
) -> Baseline:
    """Make images and a config, and train to the end.

    Args:
        folder: For all of it.
        processes: 1, forked from this one; or several, by tools/dist_train.sh.
        epochs: Length.
        adapt: Changes the config, such as its source of samples.

    Returns:
        The run.
    """
    images = folder / 'images'
    write_photographs(images, IMAGES)
    config = folder / f'tiny_{processes}.py'
    cfg = tiny_config(images.resolve(), processes, epochs)
    adapt(cfg)
    cfg.dump(config)
    work_dir = folder / f'undisturbed_{processes}'
    begin = time.monotonic()
    if processes == 1:
        start(config, work_dir).wait(LONGEST)
    else:
        with distributed(config, work_dir, processes) as job:
            _require(job.wait(LONGEST), 0, job)
    seconds = time.monotonic() - begin
    position = read_position(work_dir)
    return Baseline(config, work_dir, digest(last_checkpoint(work_dir)), position, seconds, processes)


def start(config: Path, work_dir: Path) -> TrainingProcess:
    """``tools/train.py CONFIG --work-dir DIR --resume``, forked from this process."""
    work_dir.mkdir(parents=True, exist_ok=True)
    arguments = [str(config), '--work-dir', str(work_dir), '--resume']
    return TrainingProcess(partial(run_tool, 'train.py', arguments), work_dir / 'output.log')


def kill_and_resume(whole: Baseline, work_dir: Path, phase: str, draw: random.Random) -> Outcome:
    """Kill a run of one process at a random moment, and let the same command go on.

    Args:
        whole: The run to compare with.
        work_dir: A folder of its own.
        phase: Where the moment is looked for: a random one of the times that the run is in it, and a random
            part of how long that takes. Where the signal hits is what the outcome says.
        draw: Where the random numbers come from.

    Returns:
        What came of it.
    """
    while True:
        run = start(whole.config, work_dir)
        _wait_for_moment(lambda: read_position(work_dir), whole, phase, draw, run.is_over)
        run.kill()
        hit = read_position(work_dir)
        if run.status == -signal.SIGKILL:
            break
        if run.status:
            raise RuntimeError(f'the run ended by itself, with status {run.status}\n{run.tail()}')
        shutil.rmtree(work_dir)  # it was faster than the moment: that counts for nothing
    again = start(whole.config, work_dir)
    again.wait(LONGEST)
    return _outcome(whole, work_dir, hit)


def kill_one_rank(
    whole: Baseline, work_dir: Path, phase: str, draw: random.Random, processes: int = 2
) -> Outcome:
    """Kill one of several processes; ``MAX_RESTARTS=1`` of tools/dist_train.sh does the rest.

    Args:
        whole: As for :func:`kill_and_resume`.
        work_dir: As for :func:`kill_and_resume`.
        phase: As for :func:`kill_and_resume`; the phase is the first process's.
        draw: As for :func:`kill_and_resume`.
        processes: How many.

    Returns:
        What came of it.
    """
    with distributed(whole.config, work_dir, processes, restarts=1) as job:
        _wait_for_moment(lambda: read_position(work_dir), whole, phase, draw, lambda: job.poll() is not None)
        victim = read_position(work_dir, draw.randrange(processes)).process
        hit = read_position(work_dir)
        if PHASES[hit.phase] != 'end':
            os.kill(victim, signal.SIGKILL)
            hit = read_position(work_dir)
        if PHASES[hit.phase] == 'end':  # it was faster than the moment: that counts for nothing
            job.wait(LONGEST)
            shutil.rmtree(work_dir)
            return kill_one_rank(whole, work_dir, phase, draw, processes)
        begin = time.monotonic()
        while job.poll() is None and read_position(work_dir).process == hit.process:
            if time.monotonic() - begin > LONGEST:
                raise RuntimeError(f'the other processes go on without the killed one: see {job.log}')
            time.sleep(0.05)
        seconds = time.monotonic() - begin
        _require(job.wait(LONGEST), 0, job)
    return _outcome(whole, work_dir, hit, seconds)


def truncate_and_resume(whole: Baseline, work_dir: Path, draw: random.Random) -> Outcome:
    """Cut the last checkpoint at a random length, and let the same command go on.

    Args:
        whole: The run whose folder is copied.
        work_dir: Where to.
        draw: Where the random number comes from.

    Returns:
        What came of it.
    """
    shutil.copytree(whole.work_dir, work_dir)
    last = work_dir / last_checkpoint(whole.work_dir).name
    (work_dir / 'last_checkpoint').write_text(str(last))
    size = last.stat().st_size
    left = draw.randrange(size)
    os.truncate(last, left)
    run = start(whole.config, work_dir)
    run.wait(LONGEST)
    if 'It is passed over; the one before it is tried' not in run.log.read_text():
        raise RuntimeError(f'a checkpoint cut to {left} of {size} bytes was not noticed: see {run.log}')
    differs = difference(last_checkpoint(work_dir), last_checkpoint(whole.work_dir))
    return Outcome(f'{left} of {size} bytes', -1, read_position(work_dir).first, differs)


class _Job(subprocess.Popen):
    """A process with the name of its log."""

    log: Path


@contextmanager
def distributed(config: Path, work_dir: Path, processes: int, restarts: int = 0) -> Iterator[_Job]:
    """``bash tools/dist_train.sh CONFIG N --work-dir DIR --resume``; nothing of it is left afterwards."""
    work_dir.mkdir(parents=True, exist_ok=True)
    sources = map(str, (Path(__file__).parents[2], Path(__file__).parents[1]))  # mvp_mm, faults
    environment = dict(
        os.environ,
        PATH=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        PYTHONPATH=os.pathsep.join(filter(None, [*sources, os.environ.get('PYTHONPATH')])),
        OMP_NUM_THREADS='1',
        CUDA_VISIBLE_DEVICES='',
        PORT=str(free_port()),
        MAX_RESTARTS=str(restarts),
    )
    command = ['bash', TOOLS / 'dist_train.sh', config, processes, '--work-dir', work_dir, '--resume']
    log = work_dir / 'output.log'
    with log.open('a') as output:
        job = _Job(
            [str(part) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    job.log = log
    try:
        yield job
    finally:
        if job.poll() is None:
            job.terminate()  # torchrun ends its processes, which are no children of this one, in 30 seconds
            job.wait()


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def _wait_for_moment(
    position: Callable[[], Position],
    whole: Baseline,
    phase: str,
    draw: random.Random,
    is_over: Callable[[], bool],
) -> None:
    index = PHASES.index(phase)
    times = whole.position.entered[index]
    wanted = draw.randint(1, times)
    rest = draw.random() * whole.position.seconds[index] / times
    limit = time.monotonic() + LONGEST
    while position().entered[index] < wanted:
        if is_over() or time.monotonic() > limit:
            raise RuntimeError(f'the run never came to its {phase} number {wanted}')
        time.sleep(POLL_SECONDS)
    time.sleep(rest)


def _outcome(whole: Baseline, work_dir: Path, hit: Position, seconds: float = 0.0) -> Outcome:
    found = [difference(last_checkpoint(work_dir), last_checkpoint(whole.work_dir))]
    for rank, (here, wanted) in enumerate(
        zip(whole.samples(work_dir), whole.samples(whole.work_dir), strict=True)
    ):
        if here != wanted:
            same = [*map(eq, here, wanted), False].index(False)
            found.append(f'process {rank} had other samples than the undisturbed run after iteration {same}')
    if any(found):
        lines = (work_dir / 'output.log').read_text(errors='replace').splitlines()
        found += [line for line in lines if ' WARNING ' in line or ' ERROR ' in line]
    told = '; '.join(filter(None, found))
    return Outcome(PHASES[hit.phase], hit.done, read_position(work_dir).first, told, seconds)


def _require(status: int, wanted: int, job: _Job) -> None:
    if status != wanted:
        tail = '\n'.join(job.log.read_text(errors='replace').splitlines()[-15:])
        raise RuntimeError(f'a job ended with status {status}: see {job.log}\n{tail}')
