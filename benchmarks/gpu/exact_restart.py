"""Stage 11: a run on scenes that is stopped and resumed ends with the weights of one that is not."""

import os
import signal
import time

from faults.tiny_run import digest, last_checkpoint

from .report import Report
from .trainings import CONFIGS, begin_training, options, scalars, wait_for

STOPPED = 128 + signal.SIGTERM


def run(report: Report, scale: str) -> None:
    """Train once without a break, once with one, deterministically."""
    os.environ['CUBLAS_WORKSPACE_CONFIG'] = ':4096:8'
    steps, batch = (60, 64) if scale == 'full' else (8, 8)
    settings = options(
        randomness__deterministic=True,
        train_dataloader__dataset__count=batch * steps // 2,
        train_dataloader__batch_size=batch,
        train_dataloader__sampler__total_batch=batch,
        train_dataloader__num_workers=4 if scale == 'full' else 1,
        val_dataloader__dataset__count=batch,
        val_dataloader__batch_size=batch,
        train_cfg__max_epochs=2,
        default_hooks__logger__interval=1,
        auto_scale_lr__base_batch_size=batch,
    )
    config = str(CONFIGS / 'mvp' / 'vittiny_scenes.py')

    def arguments(name: str, *more: str) -> list[str]:
        return [config, '--amp', '--work-dir', str(report.scratch / name), *more, *settings]

    start = time.monotonic()
    begin_training(report, arguments('whole')).wait(600)
    report.add('run without a break', time.monotonic() - start, 's')
    broken = report.scratch / 'broken'
    process = begin_training(report, arguments('broken'))
    if wait_for(lambda: any('loss' in line for line in scalars(broken)), process):
        os.kill(process.process, signal.SIGTERM)
    wait_for(process.is_over, process)
    report.add(
        'a run that gets SIGTERM ends with', process.status, '', f'{STOPPED}', process.status == STOPPED
    )
    stopped_at = last_checkpoint(broken).name
    report.add('it was stopped at', stopped_at)
    begin_training(report, arguments('broken', '--resume')).wait(600)
    whole, resumed = (digest(last_checkpoint(report.scratch / name)) for name in ('whole', 'broken'))
    report.add(
        'resumed: sha256 of weights and optimiser', resumed[:16], '', f'{whole[:16]}', resumed == whole
    )
