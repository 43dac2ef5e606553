"""Trainings in processes of their own, begun in a moment because everything is imported already."""

import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

# In a clone a link to its tools, in a wheel a copy of them.
TOOLS = Path(__file__).parents[2] / 'tools'


def run_tool(name: str, arguments: Sequence[str]) -> None:
    """Run a command-line tool in this process.

    Args:
        name: Such as ``'train.py'``.
        arguments: What follows it on the command line.
    """
    sys.argv = [str(TOOLS / name), *arguments]
    runpy.run_path(sys.argv[0], run_name='__main__')


class TrainingProcess:
    """A call in a process that is forked from this one.

    Args:
        call: What it does; it ends as a Python program does, with an exit status.
        log: File that takes what it prints, after what is in there.
    """

    def __init__(self, call: Callable[[], None], log: Path) -> None:
        self.log = log
        self.status: int | None = None  # a negative one is a signal's number
        sys.stdout.flush()
        sys.stderr.flush()
        self.process = os.fork()
        if not self.process:
            os._exit(_run(call, log))

    def is_over(self) -> bool:
        """Whether it has ended; then there is a ``status``."""
        if self.status is None:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if not self.is_over():
            os.kill(self.process, signal.SIGKILL)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])

    def wait(self, seconds: float) -> None:
        """Wait for its end.

        Raises:
            RuntimeError: If it ends with another status than 0, or not in time.
        """
        limit = time.monotonic() + seconds
        while not self.is_over():
            if time.monotonic() > limit:
                self.kill()
                raise RuntimeError(f'no end after {seconds:g} s: see {self.log}\n{self.tail()}')
            time.sleep(0.01)
        if self.status:
            raise RuntimeError(f'a training ended with status {self.status}: see {self.log}\n{self.tail()}')

    def tail(self, lines: int = 15) -> str:
        """The end of what it printed."""
        return '\n'.join(self.log.read_text(errors='replace').splitlines()[-lines:])


def _run(call: Callable[[], None], log: Path) -> int:
    """In the new process: its exit status."""
    torch.set_num_threads(1)  # threads that the parent has begun are not here
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(handle, number)
    sys.stdout, sys.stderr = (os.fdopen(number, 'w', buffering=1, closefd=False) for number in (1, 2))
    status = 0
    try:
        call()
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status
