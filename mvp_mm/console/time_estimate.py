"""How long a run will take, from its first steps."""

import time

from mmengine.hooks import Hook
from mmengine.runner import Runner


class TimeEstimateHook(Hook):
    """Say once, after a few steps, how long the whole run will take.

    Args:
        steps: Iterations to measure, after one that warms up. Default 5.
    """

    priority = 'LOWEST'

    def __init__(self, steps: int = 5) -> None:
        self.steps = steps
        self._begun: tuple[int, float] | None = None
        self._said = False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Measure, and say it."""
        done = runner.iter + 1
        if self._begun is None:
            self._begun = (done, time.perf_counter())
            return
        first, begun = self._begun
        if self._said or (done - first < self.steps and done < runner.max_iters):
            return
        self._said = True
        each = (time.perf_counter() - begun) / (done - first)
        left = runner.max_iters - done
        if not left:
            return
        runner.logger.info(
            f'Estimated time: {in_words(each * left)} for the {left:,} iterations that are left (the last '
            f'{done - first} took {each:.3g} s each; validation and saving not counted)'
        )


def in_words(seconds: float) -> str:
    """``'45 s'``, ``'12 min'``, ``'3 h 20 min'`` or ``'5 days 4 h'``."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f'{seconds:.0f} s'
    if minutes < 120:
        return f'{minutes} min'
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f'{hours} h {minutes} min'
    return f'{hours // 24} days {hours % 24} h'
