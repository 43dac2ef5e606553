"""Show a training to a person: a progress bar, results and warnings. All else goes to the log file."""

import logging
import os
import time
import warnings
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger, print_log
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from ..stack import is_no_stack_noise

REFRESH_SECONDS = 0.25
# Without a terminal there is a line for each tenth of a training, and after this many seconds, or after a
# tenth of the time that has passed, whichever is more.
LINE_SECONDS = 30.0
WINDOW = 50  # iterations that speeds and losses are averaged over


class TrainingDisplay(Hook):
    """Show a training, as a hook of its runner; in a ``with`` block, keep everything else off the screen.

    Inside the block MMEngine's log and the stack's warnings go to the log file only, but for warnings and
    errors, each of which is shown once. Of several processes only the first speaks.

    Args:
        verbose: Leave the screen to MMEngine. Default False.
    """

    priority = 'LOWEST'

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose
        self.console = Console(highlight=False, soft_wrap=True)
        self.results: dict[str, float] = {}
        self._shown: set[str] = set()
        self._exit = ExitStack()
        self._bar: Progress | None = None
        self._begun = self._last_line = 0.0
        self._tenths = 0

    def __enter__(self) -> 'TrainingDisplay':
        self._exit.enter_context(warnings.catch_warnings())
        warnings.simplefilter('default')
        if not self.verbose:
            warnings.showwarning = _log_warning
            self._exit.callback(setattr, MMLogger, 'callHandlers', MMLogger.callHandlers)
            MMLogger.callHandlers = lambda logger, record: self._handle(logger, record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._exit.close()

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line, above the bar if there is one."""
        if is_main_process():
            self.console.print(text, style=style, markup=False)

    def before_train(self, runner: Runner) -> None:
        """Begin, and say where a resumed training goes on."""
        if self.verbose:
            return
        if runner.iter:
            self.say(f'Resumed after iteration {runner.iter:,} of {runner.max_iters:,}')
        self._begun = self._last_line = time.perf_counter()
        self._tenths = 10 * runner.iter // runner.max_iters
        if self.console.is_terminal and is_main_process():
            # No thread redraws it: loader workers are forked, and would inherit its lock.
            columns = TextColumn('{task.description}'), BarColumn(None), TaskProgressColumn()
            text = TextColumn('{task.fields[status]}')
            streams = dict(redirect_stdout=False, redirect_stderr=False)
            self._bar = Progress(*columns, text, console=self.console, auto_refresh=False, **streams)
            self._bar.add_task('starting', total=runner.max_iters, completed=runner.iter, status='')
            self._bar.start()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Advance the bar, or print a line, if it is time to."""
        if self.verbose:
            return
        now, done = time.perf_counter(), runner.iter + 1
        since, ended = now - self._last_line, done == runner.max_iters
        tenths = 10 * done // runner.max_iters
        if self._bar is not None:
            if since >= REFRESH_SECONDS or ended:
                shown = dict(description=_position(runner), status=_status(runner))
                self._bar.update(self._bar.task_ids[0], completed=done, refresh=True, **shown)
                self._last_line = now
        elif tenths > self._tenths or since >= max(LINE_SECONDS, (now - self._begun) / 10):
            self._tenths, self._last_line = tenths, now
            self.say(f'{_position(runner)}  {100 * done // runner.max_iters:3d} %  {_status(runner)}')

    def before_val_epoch(self, runner: Runner) -> None:
        """Say on the bar that it waits for a validation."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description='validating', refresh=True)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Show the results of a validation."""
        self.results = dict(metrics or {})
        if self.results and not self.verbose:
            self.say(f'validated after iteration {runner.iter:,}: {described(self.results)}')

    def after_train(self, runner: Runner) -> None:
        """Leave the full bar on the screen."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description='trained', refresh=True)
            self._bar.stop()

    def _handle(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        """Pass a record to the log's files, and to the screen if it is a warning or an error."""
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler) and record.levelno >= handler.level:
                handler.handle(record)
        text = f'{record.levelname}: {record.getMessage()}'
        if record.levelno >= logging.WARNING and is_no_stack_noise(record) and text not in self._shown:
            self._shown.add(text)
            self.say(text, 'yellow' if record.levelno < logging.ERROR else 'red')


def described(results: dict[str, float]) -> str:
    """``{'accuracy/top1': 50.0, 'accuracy/top5': 90.0}`` as ``'accuracy: top1 50, top5 90'``."""
    prefix = os.path.commonprefix(list(results)).rpartition('/')[0]
    figures = [f'{name.removeprefix(f"{prefix}/")} {value:.4g}' for name, value in results.items()]
    return f'{prefix}: '.removeprefix(': ') + ', '.join(figures)


def _position(runner: Runner) -> str:
    if runner.log_processor.by_epoch:
        return f'epoch {runner.epoch + 1}/{runner.max_epochs}'
    return f'iteration {runner.iter + 1}/{runner.max_iters}'


def _status(runner: Runner) -> str:
    """Loss, speed and time left, all of them MMEngine's own averages."""
    hub = runner.message_hub
    parts = [f'loss {hub.get_scalar("train/loss").mean(WINDOW):.4f}']
    if 'train/images_per_second' in hub.log_scalars:
        parts.append(f'{hub.get_scalar("train/images_per_second").mean(WINDOW):,.0f} images/s')
    return '  '.join([*parts, f'{timedelta(seconds=round(hub.get_info("eta", 0)))} left'])


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    print_log(warnings.formatwarning(message, category, filename, lineno, line).rstrip(), 'current')
