import multiprocessing
import multiprocessing.util
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, NoReturn

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..checkpoint.exact_resume import at_step_boundary
from ..checkpoint.safe_checkpoint_hook import SafeCheckpointHook
from ..distributed.collectives import DelayedAllReduce, all_reduce
from ..loader_workers import loaders_of

SIGNALS = (signal.SIGTERM, signal.SIGINT)
MERGE_SECONDS = 2  # a later signal is a second one: clusters and torchrun pass one on in several ways
# Set at exit: workers then obey the first signal.
_leaving = multiprocessing.RawValue('b', 0)


@HOOKS.register_module()
class StopOnSignalHook(Hook):
    """On SIGTERM or SIGINT, save a checkpoint after the current optimiser step and end the run.

    Clusters send the first to a pre-empted job, Ctrl-C the second. A validation is interrupted, and repeated
    when the run resumes. One process that gets the signal is enough: all agree after each step, and act
    together one step later, or at once in the last one. A second signal ends the process at once. Loader
    workers outlive a signal sent to all processes of a job. The exit status is 128 plus the signal's number.
    """

    priority = 'LOWEST'  # after the regular checkpoint

    def __init__(self) -> None:
        self._received = 0
        self._since = 0.0
        self._previous: dict[int, Any] = {}
        self._agreement = DelayedAllReduce('max')

    def before_train(self, runner: Runner) -> None:
        """Take over the signals, here and in the loaders' workers."""
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning('Training runs in a thread: SIGTERM and SIGINT end it without a checkpoint')
            return
        # Runs before workers are ended, also in a child process of multiprocessing, which has no atexit.
        multiprocessing.util.Finalize(None, setattr, (_leaving, 'value', 1), exitpriority=100)
        self._received = 0
        self._agreement = DelayedAllReduce('max')
        self._speaks = is_main_process()
        self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        for loop in filter(None, (runner.train_loop, runner.val_loop)):
            for loader in loaders_of(loop):
                loader.worker_init_fn = partial(_begin_worker, loader.worker_init_fn, _leaving)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        number = self._agreement.exchange(self._received)
        if self.is_last_train_iter(runner):
            number = max(number, self._agreement.settle())
        if number and at_step_boundary(runner):
            self._stop(runner, number, runner.iter + 1)

    def before_val_epoch(self, runner: Runner) -> None:
        """Count the batches that every process has, because they agree after each of these."""
        self._common_batches = all_reduce(len(runner.val_loop.dataloader), 'min')

    def after_val_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        if batch_idx < self._common_batches:
            self.after_evaluation_batch(runner)

    def after_evaluation_batch(self, runner: Runner) -> None:
        """Stop in an evaluation that is part of training."""
        if self._previous and (number := self._agreement.exchange(self._received)):
            self._stop(runner, number, runner.iter)

    def after_train(self, runner: Runner) -> None:
        self._agreement.settle()
        self.restore_signals()

    def restore_signals(self) -> None:
        """Let signals do what they did before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self._received:
            self._received, self._since = number, time.monotonic()
            if self._speaks:  # os.write, because a signal may interrupt a print
                told = 'saving a checkpoint after this step, then the run ends; a second one ends it at once'
                os.write(2, f'\n{signal.Signals(number).name}: {told}\n'.encode())
        elif time.monotonic() - self._since >= MERGE_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _stop(self, runner: Runner, number: int, iteration: int) -> NoReturn:
        hook = next((hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)), None)
        if hook is None:
            saved = 'without a checkpoint, because the config has no checkpoint hook'
        elif hook.save_now(runner, iteration):
            saved = f'{hook.last_ckpt} is saved; go on from it with --resume (mvp-mm: the same command)'
        else:
            saved = 'its checkpoint could not be written (see above)'
        name = signal.Signals(number).name
        runner.logger.warning(f'Stopped by {name} after {iteration} iterations: {saved}')
        self.restore_signals()
        raise SystemExit(128 + number)


def _begin_worker(then: Callable[[int], None] | None, leaving: Any, worker: int) -> None:
    """Set up a loader's worker: it ignores a first signal, unless the training process is leaving."""
    signals = 0

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if leaving.value:
            os._exit(0)  # torch complains of any other status
        if signals > 1:
            os._exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, receive)
    if then is not None:
        then(worker)
