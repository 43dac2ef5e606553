"""Show a training to a person: a progress bar, results and warnings. All else goes to the log file."""

import logging
import os
import time
import warnings
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from ..engine.quiet_log import quiet_log
from ..wording import listed

REFRESH_SECONDS = 0.25
# Without a terminal there is a line for each tenth of a training, and after this many seconds, or after a
# tenth of the time that has passed, whichever is more.
LINE_SECONDS = 30.0
WINDOW = 50  # iterations over which losses and speeds are averaged
FIGURES = 8  # of a validation, at most; all are in the log


class TrainingDisplay(Hook):
    """Show a training, as a hook of its runner; in a ``with`` block, keep everything else off the screen.

    Inside the block MMEngine's log and the stack's warnings go to the log file only, except that warnings and
    errors of the log are shown, each once. Of several processes only the first speaks.

    Args:
        verbose: Leave the screen to MMEngine. Default False.
    """

    priority = 'LOWEST'

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose
        self.console = Console(highlight=False, soft_wrap=True)
        self.results: dict[str, float] = {}
        self._exit = ExitStack()
        self._bar: Progress | None = None
        self._begun = self._last_line = 0.0
        self._tenths = 0

    def __enter__(self) -> 'TrainingDisplay':
        self._exit.enter_context(warnings.catch_warnings())
        warnings.simplefilter('default')
        if not self.verbose:
            warnings.showwarning = lambda *warning, **_: print_log(
                warnings.formatwarning(*warning[:4]).rstrip(), 'current'
            )
            self._exit.enter_context(quiet_log(self._say_logged))
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()

    def say(self, text: str, style: str = '') -> None:
        """Print a line, above the bar if there is one."""
        if is_main_process():
            self.console.print(Text(text, style))

    def before_train(self, runner: Runner) -> None:
        """Begin, and say where a resumed training goes on."""
        if runner.iter:
            self.say(f'Resumed after iteration {runner.iter:,} of {runner.max_iters:,}')
        self._begun = self._last_line = time.perf_counter()
        self._tenths = 10 * runner.iter // runner.max_iters
        if self.console.is_terminal and is_main_process():
            status = TextColumn('{task.fields[status]}')
            columns = (TextColumn('{task.description}'), BarColumn(None), TaskProgressColumn(), status)
            # No thread refreshes it: loader workers are forked, and would inherit the thread's lock.
            self._bar = Progress(*columns, console=self.console, auto_refresh=False)
            self._bar.add_task('starting', total=runner.max_iters, completed=runner.iter, status='')
            self._exit.enter_context(self._bar)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Advance the bar, or print a line, when it is time to."""
        now, done = time.perf_counter(), runner.iter + 1
        since, tenths = now - self._last_line, 10 * done // runner.max_iters
        if self._bar is not None:
            if since >= REFRESH_SECONDS or done == runner.max_iters:
                self._last_line = now
                self._bar.update(TaskID(0), completed=done, status=_status(runner))
                self._describe(_position(runner))
        elif tenths > self._tenths or since >= max(LINE_SECONDS, (now - self._begun) / 10):
            self._tenths, self._last_line = tenths, now
            self.say(f'{_position(runner)}  {100 * done // runner.max_iters:3d} %  {_status(runner)}')

    def before_val_epoch(self, runner: Runner) -> None:
        """Say on the bar that a validation runs."""
        self._describe('validating')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Show the results of a validation."""
        self.results = dict(metrics or {})
        if self.results:
            self.say(f'validated after iteration {runner.iter:,}: {described(self.results)}')

    def after_train(self, runner: Runner) -> None:
        """Leave the full bar on the screen."""
        self._describe('trained')
        if self._bar is not None:
            self._bar.stop()

    def _describe(self, state: str) -> None:
        if self._bar is not None:
            self._bar.update(TaskID(0), description=state, refresh=True)

    def _say_logged(self, text: str, level: int) -> None:
        self.say(text, 'yellow' if level < logging.ERROR else 'red')


def described(results: dict[str, float]) -> str:
    """``{'accuracy/top1': 50.0, 'accuracy/top5': 90.0}`` as ``'accuracy: top1 50, top5 90'``."""
    prefix = os.path.commonprefix(list(results)).rpartition('/')[0]
    figures = [f'{name.removeprefix(f"{prefix}/")} {value:.4g}' for name, value in results.items()]
    return f'{prefix}: '.removeprefix(': ') + listed(figures, FIGURES)


def _position(runner: Runner) -> str:
    if runner.log_processor.by_epoch:
        return f'epoch {runner.epoch + 1}/{runner.max_epochs}'
    return f'iteration {runner.iter + 1}/{runner.max_iters}'


def _status(runner: Runner) -> str:
    """Loss, speed and time left, as MMEngine and the throughput hook record them."""
    hub = runner.message_hub
    parts = [f'loss {hub.get_scalar("train/loss").mean(WINDOW):.4f}']
    if 'train/images_per_second' in hub.log_scalars:
        parts.append(f'{hub.get_scalar("train/images_per_second").mean(WINDOW):,.0f} images/s')
    return '  '.join([*parts, f'{timedelta(seconds=round(hub.get_info("eta", 0)))} left'])
