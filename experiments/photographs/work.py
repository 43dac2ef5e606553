"""Do one job of the experiment. Run as a process of its own by :func:`.run_jobs`."""

import argparse
import time
from pathlib import Path

from mvp_mm import engine

from ..jobs import CONFIGS, do_job, last_checkpoint, runner_of
from .plan import BUDGETS, METHODS, Budget, Job


def do(job: Job, length: Budget, out: Path, data: str, options: dict | None = None) -> dict:
    """Do a job, or go on with it, and return its figures.

    Args:
        job: The job; what it needs is done and lies in ``out``.
        length: Number of epochs, and of loader workers.
        out: Folder of the experiment.
        data: Folder of the shards and ``classes.txt``.
        options: Further config options, for tests.

    Returns:
        ``seconds``, ``steps``, ``checkpoint``, and the figures of the config's evaluators.
    """
    start = time.perf_counter()
    method = METHODS[job.method]
    epochs = max(1, round(length.epochs * method.epochs_factor))
    chosen = {
        'randomness.seed': job.seed,
        'train_dataloader.num_workers': length.workers,
        'train_cfg.max_epochs': epochs,
        'train_cfg.val_interval': max(1, epochs // 4),
        'param_scheduler.1.end': epochs,
        **data_options(method.config, data),
    }
    runner = runner_of(method.config, out / 'work' / job.name, chosen | (options or {}), resume=True)
    runner.train()
    figures = dict(runner.test(), steps=runner.iter, checkpoint=last_checkpoint(out, job.name))
    return dict(figures, seconds=round(time.perf_counter() - start, 1))


def data_options(config: str, data: str) -> dict:
    """Config options by which a config of photographs reads the shards of a folder."""
    cfg = engine.load_config(str(CONFIGS / config))
    loaders = {'train_dataloader': cfg.train_dataloader}
    for number, evaluator in enumerate(cfg.evaluators):
        keys = [key for key in evaluator if key.endswith('dataloader')]
        loaders |= {f'evaluators.{number}.{key}': evaluator[key] for key in keys}
    found = {}
    for key, loader in loaders.items():
        found[f'{key}.dataset.data_root'] = data
        if 'classes' in loader.dataset:
            found[f'{key}.dataset.classes'] = f'{data}/classes.txt'
    return found


def _do_of_command_line(fields: dict, args: argparse.Namespace) -> dict:
    return do(Job(**fields), BUDGETS[args.length], args.out, *args.more)


if __name__ == '__main__':
    do_job(__doc__, _do_of_command_line)
