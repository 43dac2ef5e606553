"""Stage 12: the recipe on the embedded scenes in full."""

import time

from .report import Report
from .trainings import CONFIGS, begin_training, logged, options, steady

COSINE, EXCESS = 0.787, 0.174  # configs/mvp/vittiny_scenes.py, on a CPU


def run(report: Report, scale: str) -> None:
    """Train it and read its last validation."""
    full = scale == 'full'
    settings = dict(train_dataloader__num_workers=16)
    if not full:
        settings = dict(
            train_dataloader__num_workers=1,
            train_dataloader__dataset__count=256,
            val_dataloader__dataset__count=100,
            train_cfg__max_epochs=1,
            default_hooks__logger__interval=1,
        )
    work_dir = report.scratch / 'run'
    start = time.monotonic()
    config = str(CONFIGS / 'mvp' / 'vittiny_scenes.py')
    process = begin_training(report, [config, '--amp', '--work-dir', str(work_dir), *options(**settings)])
    told = 0
    while not process.is_over():
        time.sleep(0.5)
        cosines = logged(work_dir, 'target_cosine/cosine')
        for number, value in enumerate(cosines[told:], told + 1):
            report.add(f'cosine after epoch {number}', value)
        told = len(cosines)
    process.wait(1)
    report.add('the run took', time.monotonic() - start, 's')
    report.add('images/s', steady(logged(work_dir, 'images_per_second')))
    for name, expected in (('cosine', COSINE), ('excess', EXCESS)):
        report.near(f'{name} at the end', logged(work_dir, f'target_cosine/{name}')[-1], expected, 0.01)
