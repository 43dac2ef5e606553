"""The table of an experiment, from the figures of its jobs."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from ..jobs import CONFIGS, figures_of, result_file
from ..tables import markdown, mean_and_spread
from .plan import METHODS, Job

COLUMNS = {
    'seen/top1': 'seen, top-1',
    'seen/top5': 'top-5',
    'held_out/top1': 'held out, top-1',
    'held_out/top5': 'top-5',
    'knn_held_out/top1_k20': 'held out, k-NN',
}


def table(jobs: Sequence[Job], out: Path) -> str:
    """A Markdown table of the jobs that are done, over the seeds, in percent; and chance."""
    split = Config.fromfile(CONFIGS / '_base_/datasets/tiny_imagenet.py')
    numbers = dict(seen=len(split.seen), held_out=len(split.held_out), knn_held_out=len(split.held_out))
    chances = [(5 if 'top5' in key else 1) * 100 / numbers[key.split('/')[0]] for key in COLUMNS]
    rows = {'chance': ['', *(f'{chance:.1f}' for chance in chances)]}
    for name in dict.fromkeys(job.method for job in jobs):
        own = [job.name for job in jobs if job.method == name and result_file(out, job.name).exists()]
        found = [figures_of(out, job) for job in own]
        if found:
            cells = [mean_and_spread([figures[key] for figures in found]) for key in COLUMNS]
            rows[METHODS[name].label] = [f'{found[0]["steps"]:,}', *cells]
    return markdown(['steps', *COLUMNS.values()], rows)
