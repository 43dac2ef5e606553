"""Stage 13: the whole training loop on JPEG files, beside its step alone."""

import time
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mvp_mm.engine.mvp_runner import MVPRunner
from mvp_mm.hardware import usable_cores

from ..pretrain_variants import ThisPackage
from .measure import build, event_seconds, warm_compiler
from .photographs import repeat, write_photographs
from .report import Report
from .trainings import CONFIGS, begin_training, logged, options, steady

WORKERS = 16


def run(report: Report, scale: str) -> None:
    """Train ``vitb16_in1k`` for some iterations and read what it logs."""
    full = scale == 'full'
    batch, iterations, different = (256, 120, 600) if full else (4, 4, 8)
    workers = min(WORKERS, usable_cores())
    start = time.monotonic()
    paths = write_photographs(report.scratch / 'different', different, workers)
    report.add('a JPEG file', sum(path.stat().st_size for path in paths) / len(paths) / 1e3, 'kB')
    repeat(paths, report.scratch / 'train', batch * iterations)
    report.add('writing the files', time.monotonic() - start, 's')
    work_dir = report.scratch / 'run'
    settings = options(
        model__target_generator__pretrained=None,
        train_dataloader__dataset__data_root=report.scratch / 'train',
        train_dataloader__batch_size=batch,
        train_dataloader__num_workers=workers,
        train_dataloader__sampler__total_batch=batch,
        train_cfg__max_epochs=1,
        default_hooks__logger__interval=10 if full else 1,
        default_hooks__checkpoint__interval=1000,
        default_hooks__checkpoint__save_last=False,
        log_processor__window_size=10 if full else 1,
    )
    start = time.monotonic()
    config = str(CONFIGS / 'mvp' / 'vitb16_in1k.py')
    arguments = [config, '--no-auto-batch', '--work-dir', str(work_dir), *settings]
    begin_training(report, arguments).wait(600)
    report.add('the run took', time.monotonic() - start, 's')
    rates, times, waits = (logged(work_dir, key) for key in ('images_per_second', 'time', 'data_time'))
    report.add(
        'whole loop, by windows of 10 iterations', ', '.join(f'{rate:.0f}' for rate in rates), 'images/s'
    )
    skip = 5 if full else 1  # windows: the loaders had worked ahead while the step was compiled
    seconds = max(steady(times, skip), 1e-9)
    loop = batch / seconds
    report.add('whole loop', loop, 'images/s')
    share = 100 * steady(waits, skip) / seconds
    report.at_most('share of an iteration that waits for data', share, 5, '%')
    report.add('its loader alone', _loader_rate(report.scratch / 'train', batch, workers), 'images/s')
    warm_compiler()
    step, _, _ = build(ThisPackage, batch)
    alone = batch / max(event_seconds(step, 15 if full else 2, 3), 1e-9)
    report.add('its step alone', alone, 'images/s')
    report.at_least('whole loop over its step alone', loop / alone, 0.95)


def _loader_rate(folder: Path, batch: int, workers: int) -> float:
    """Images/s of the loader when nothing else is done, once what it has prepared at first is used up."""
    cfg = Config.fromfile(CONFIGS / 'mvp' / 'vitb16_in1k.py').train_dataloader
    cfg.update(batch_size=batch, num_workers=workers, persistent_workers=False)
    cfg.dataset.data_root = str(folder)
    cfg.sampler.total_batch = batch
    init_default_scope('mmpretrain')
    loader = MVPRunner.build_dataloader(cfg, seed=0)
    batches = iter(loader)
    first = min(3 * workers, len(loader) // 2)  # more than are prepared ahead
    for _ in zip(range(first), batches, strict=False):
        pass
    start, counted = time.perf_counter(), 0
    for _ in batches:
        counted += 1
    return counted * batch / max(time.perf_counter() - start, 1e-9)
