"""Stage 9: single ideas beside what they replaced."""

from ..ideas import IDEAS, Setting
from .measure import BF16, CUDA, event_seconds, free, warm_compiler
from .report import Report

CHOSEN = ('residual sum', 'patch embedding', 'loss', 'AdamW', 'clipping', 'QuickGELU', 'bias, 224 pixels')


def run(report: Report, scale: str) -> None:
    """Time each variant by the GPU's events."""
    warm_compiler()
    full = scale == 'full'
    setting = Setting(CUDA, BF16, 256 if full else 2)
    for idea in CHOSEN:
        try:
            for name, work in IDEAS[idea](setting).items():
                seconds = event_seconds(work, 30 if full else 2, 5 if full else 1)
                report.add(f'{idea}: {name}', 1e3 * seconds, 'ms')
        except Exception as error:  # the next may run all the same
            report.add(f'{idea}: cannot be measured', f'{type(error).__name__}: {str(error)[-300:]}')
        free()
