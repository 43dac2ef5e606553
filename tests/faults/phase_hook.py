"""Lets another process see what a training is doing at any moment, also after it was killed."""

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

PHASES = ('start', 'step', 'save', 'evaluation', 'end')
# process, phase, first iteration, iterations done; then for each phase how often and how long
LAYOUT = struct.Struct(f'<4q{len(PHASES)}q{len(PHASES)}d')


@dataclass(frozen=True)
class Position:
    """Where a training is, or was when it ended.

    Args:
        process: Its process id; 0 if it has not begun.
        phase: Index in ``PHASES``.
        first: Iterations that were done when it began.
        done: Iterations that are done.
        entered: By phase, how often it was entered.
        seconds: By phase, how long it took so far, without the time since it was entered last.
    """

    process: int
    phase: int
    first: int
    done: int
    entered: tuple[int, ...]
    seconds: tuple[float, ...]


def read_position(work_dir: Path, rank: int = 0) -> Position:
    """What :class:`PhaseHook` wrote last.

    Args:
        work_dir: Of the run.
        rank: Of the process.

    Returns:
        The position; of a run that has not begun, all zeros.
    """
    try:
        content = (work_dir / f'phase.{rank}').read_bytes()
    except FileNotFoundError:
        content = b''
    process, phase, first, done, *rest = LAYOUT.unpack(content.ljust(LAYOUT.size, b'\0')[: LAYOUT.size])
    return Position(process, phase, first, done, tuple(rest[: len(PHASES)]), tuple(rest[len(PHASES) :]))


def trained_samples(work_dir: Path, rank: int = 0) -> list[list[str]]:
    """What :class:`PhaseHook` noted of the samples.

    Args:
        work_dir: Of the run.
        rank: Of the process.

    Returns:
        The samples of each iteration; an iteration that was done again after a kill counts once.

    Raises:
        RuntimeError: If it was done again with others, or one is missing.
    """
    found: dict[int, list[str]] = {}
    for line in (work_dir / f'samples.{rank}').read_text().splitlines():
        number, *names = line.split('\t')
        if found.setdefault(int(number), names) != names:
            raise RuntimeError(f'iteration {number} was done again with other samples: {names}')
    if sorted(found) != list(range(len(found))):
        raise RuntimeError(f'of {max(found) + 1} iterations {len(found)} are known')
    return [found[number] for number in range(len(found))]


@HOOKS.register_module()
class PhaseHook(Hook):
    """Write what the run is doing to ``<work_dir>/phase.<rank>``, which :func:`read_position` reads.

    The file is mapped into memory, so that what was written last is there after SIGKILL too. A save lasts
    from when the checkpoint is put together until it is written, checked, renamed and the outdated ones are
    gone. Loading a batch is part of a step.

    The files' names in each batch go to ``samples.<rank>``, for :func:`trained_samples`: before the batch is
    trained on, so that no checkpoint holds an iteration whose line is missing. SIGKILL can cut a line, where
    it crosses a page of the file; the cut part is removed, and the iteration is done again.
    """

    priority = 'LOWEST'  # after the checkpoint is written

    def before_train(self, runner: Runner) -> None:
        """Begin to tell."""
        self._entered, self._seconds = [0] * len(PHASES), [0.0] * len(PHASES)
        self._first = self._done = runner.iter
        self._phase, self._since = 0, time.monotonic()
        handle = os.open(Path(runner.work_dir) / f'phase.{get_rank()}', os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(handle, LAYOUT.size)
        self._memory = mmap.mmap(handle, LAYOUT.size)
        os.close(handle)
        self._samples = Path(runner.work_dir) / f'samples.{get_rank()}'
        self._samples.touch()
        os.truncate(self._samples, self._samples.read_bytes().rfind(b'\n') + 1)
        self._write()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """A step, whose batch is there."""
        names = [sample.img_path for sample in (data_batch or {}).get('data_samples', ())]
        with self._samples.open('ab') as file:
            file.write('\t'.join([str(runner.iter), *names]).encode() + b'\n')
        if self._phase != PHASES.index('step'):
            self._enter('step')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """A save."""
        if hasattr(self, '_memory'):
            self._enter('save')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """The next step begins with loading its batch."""
        self._done = runner.iter + 1
        self._enter('step')

    def after_train_epoch(self, runner: Runner) -> None:
        """The save of an epoch is over."""
        self._enter('step')

    def before_val_epoch(self, runner: Runner) -> None:
        """An evaluation."""
        self._enter('evaluation')

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """It is over."""
        self._enter('step')

    def after_train(self, runner: Runner) -> None:
        """All is done."""
        self._enter('end')

    def _enter(self, name: str) -> None:
        now = time.monotonic()
        self._seconds[self._phase] += now - self._since
        self._phase, self._since = PHASES.index(name), now
        self._entered[self._phase] += 1
        self._write()

    def _write(self) -> None:
        LAYOUT.pack_into(
            self._memory,
            0,
            os.getpid(),
            self._phase,
            self._first,
            self._done,
            *self._entered,
            *self._seconds,
        )
