"""Stages in processes of their own, forked from one that has imported everything and touched no GPU."""

import faulthandler
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from .report import END, LOG, Report, add_line
from .stages import Stage

GRACE = 3.0  # seconds between the request to end and the end
ROOT = Path(__file__).parents[2]


class StageProcess:
    """A stage that runs.

    Args:
        stage: Which.
        folder: Of the results.
        scratch: Folder for temporary files.
        scale: ``'full'`` or ``'debug'``.
        limit: Seconds.
        threads: Of torch on the CPU.
    """

    def __init__(
        self, stage: Stage, folder: Path, scratch: Path, scale: str, limit: float, threads: int
    ) -> None:
        self.stage = stage
        self.folder = folder
        self.limit = limit
        self.scratch = scratch / f'{stage.number:02d}'
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.error = self.scratch / 'error.txt'
        self.start = time.monotonic()
        self.told_to_end: float | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            os._exit(_run_forked(stage, folder, self.scratch, scale, limit, threads))

    @property
    def seconds(self) -> float:
        """Since its beginning."""
        return time.monotonic() - self.start

    def is_over(self) -> bool:
        """Whether it has ended; if so, its last line is written. Ends it at its limit."""
        process, status = os.waitpid(self.pid, os.WNOHANG)
        if process:
            self._finish(os.waitstatus_to_exitcode(status))
            return True
        if self.told_to_end is None and self.seconds > self.limit:
            self.told_to_end = time.monotonic()
            self._signal(signal.SIGTERM)
        elif self.told_to_end is not None and time.monotonic() - self.told_to_end > GRACE:
            self._signal(signal.SIGKILL)
        return False

    def kill(self) -> None:
        """End it now."""
        self.told_to_end = time.monotonic()
        self._signal(signal.SIGKILL)
        status = os.waitpid(self.pid, 0)[1]
        self._finish(os.waitstatus_to_exitcode(status))

    def _finish(self, status: int) -> None:
        self._signal(signal.SIGKILL)  # what it has left behind
        if self.told_to_end is not None:
            outcome, error = 'timeout', f'ended after {self.seconds:.0f} s (limit {self.limit:.0f} s)'
        elif status == 0:
            outcome, error = 'ok', ''
        else:
            outcome = 'failed'
            error = self.error.read_text() if self.error.is_file() else f'{_cause(status)}; see {LOG}'
        end_line(self.folder, self.stage, outcome, self.seconds, error)

    def _signal(self, number: int) -> None:
        """To the process, its group, and what descends from it in groups of their own."""
        for pid in [*_descendants(self.pid), self.pid]:
            with_group = os.killpg if pid == self.pid else os.kill
            try:
                with_group(pid, number)
            except (ProcessLookupError, PermissionError):
                continue


def end_line(folder: Path, stage: Stage, status: str, seconds: float, error: str = '') -> None:
    """Write how a stage ended: ``ok``, ``failed``, ``timeout`` or ``skipped``."""
    module = stage.module.rpartition('.')[2]
    add_line(folder, stage=stage.number, name=END, module=module, status=status, seconds=seconds, error=error)


def _cause(status: int) -> str:
    return f'signal {signal.Signals(-status).name}' if status < 0 else f'exit status {status}'


def _descendants(pid: int) -> list[int]:
    """Processes begun by this one, by Linux's list of children; none elsewhere."""
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        try:
            children = Path(f'/proc/{parent}/task/{parent}/children').read_text().split()
        except OSError:
            continue
        found += map(int, children)
        waiting += map(int, children)
    return found


def _run_forked(stage: Stage, folder: Path, scratch: Path, scale: str, limit: float, threads: int) -> int:
    """In the new process: its exit status."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    sys.stdout, sys.stderr = (os.fdopen(number, 'w', buffering=1, closefd=False) for number in (1, 2))
    print(f'\n===== stage {stage.number}: {stage.module}, limit {limit:.0f} s', flush=True)
    arguments = [str(stage.number), stage.module, str(folder), str(scratch), scale, str(limit), str(threads)]
    if torch.cuda._is_in_bad_fork():
        # An import has asked the driver for its devices, and it serves no fork of that process: begin anew.
        os.execv(sys.executable, [sys.executable, '-m', f'{__package__}.run_stage', *arguments])
    return run_stage(*arguments)


def run_stage(
    number: str, module: str, folder: str, scratch: str, scale: str, limit: str, threads: str
) -> int:
    """Run a stage in this process.

    Args:
        number: Of the stage.
        module: That has ``run``.
        folder: Of the results.
        scratch: For temporary files.
        scale: ``'full'`` or ``'debug'``.
        limit: Seconds; shortly before, the log gets a traceback of where the stage is.
        threads: Of torch on the CPU.

    Returns:
        Exit status; if it is not 0, ``error.txt`` in ``scratch`` has the end of the traceback.
    """
    faulthandler.enable()
    faulthandler.dump_traceback_later(max(1.0, float(limit) - 2))
    torch.set_num_threads(int(threads))
    report = Report(Path(folder), int(number), Path(scratch))
    status = 0
    try:
        importlib.import_module(module).run(report, scale)
    except BaseException:
        text = traceback.format_exc()
        print(text, flush=True)
        (Path(scratch) / 'error.txt').write_text('\n'.join(text.splitlines()[-12:]))
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def run_tool(name: str, arguments: Sequence[str]) -> None:
    """Run one of ``tools/`` in this process, which may be a fork."""
    from faults.training_process import TOOLS, run_tool

    if torch.cuda._is_in_bad_fork():
        os.execv(sys.executable, [sys.executable, str(TOOLS / name), *arguments])
    run_tool(name, arguments)


def importable_in_children() -> None:
    """Let Python processes that are begun anew find this package, where it is not installed, and faults."""
    own, given = [str(ROOT), str(ROOT / 'tests')], os.environ.get('PYTHONPATH', '').split(os.pathsep)
    paths = [*own, *filter(None, given)]
    os.environ['PYTHONPATH'] = os.pathsep.join(dict.fromkeys(paths))
