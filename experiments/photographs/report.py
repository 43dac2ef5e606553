"""The table, the claims and the curves of an experiment, from the figures of its jobs."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..curves import draw_curves
from ..jobs import CONFIGS, figures_of, result_file
from ..recipes import TUNING
from ..tables import markdown, mean_and_spread
from .plan import METHODS, TEACHERS, Job

CHANCE = 'chance'
EVALUATED = {  # figures of a training's evaluators
    'seen/top1': 'names, seen',
    'seen/top5': 'seen, top-5',
    'held_out/top1': 'names, held out',
    'held_out/top5': 'held out, top-5',
    'knn_held_out/top1_k20': 'k-NN, patches',
}
MEASURED = dict(knn='k-NN', linear='linear probe')  # of the classes held out
CLAIMS = {  # the paper's, of two methods
    'CLIP as the teacher above the vision-only one': ('clip', 'dino'),
    'the vision-only teacher above pixels': ('dino', 'pixel'),
    'pixels above no pre-training': ('pixel', 'scratch'),
    'all tokens above masked ones only': ('clip', 'clip-masked-only'),
    'cleaned tokens above last ones': ('clip-csa', 'clip'),
}

Figures = dict[tuple[str, str], dict[int, float]]  # of each seed, by (row, column)


def collect(jobs: Sequence[Job], out: Path) -> Figures:
    """The figures of the jobs that are done."""
    figures: Figures = defaultdict(dict)
    for job in jobs:
        if result_file(out, job.name).exists() and not job.name.startswith(TUNING):
            for row, column, value in _of_job(job, figures_of(out, job.name)):
                figures[row, column][job.seed] = value
    return dict(figures)


def _of_job(job: Job, found: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    teacher = f'teacher {job.method}'
    if job.kind == 'train':
        for key, column in EVALUATED.items():
            if key in found:
                yield job.method, column, found[key]
            of_teacher = key.replace('/', '/teacher_')
            if of_teacher in found and job.method in TEACHERS:
                yield teacher, column, found[of_teacher]
    elif job.kind.startswith('measure'):
        for key, column in MEASURED.items():
            yield teacher if job.kind == 'measure-teacher' else job.method, column, found[key]
    elif job.kind == 'finetune':
        yield job.method, f'{job.labels} labels a class', found['top1']
    elif job.kind == 'segment':
        column = _street_column(job.labels, job.frozen)
        yield job.method, column, found['miou']
        yield CHANCE, column, found['constant']


def _street_column(labels: int, frozen: bool) -> str:
    return f'CamVid {labels}' + (' frozen' if frozen else '')


def chances() -> dict[str, float]:
    """What guessing reaches, in percent, by column."""
    split = Config.fromfile(CONFIGS / '_base_/datasets/tiny_imagenet.py')
    few, many = 100 / len(split.held_out), 100 / len(split.seen)
    found = dict.fromkeys((*MEASURED.values(), EVALUATED['knn_held_out/top1_k20']), few)
    for part, chance in (('seen', many), ('held_out', few)):
        found |= {EVALUATED[f'{part}/top1']: chance, EVALUATED[f'{part}/top5']: 5 * chance}
    return found


def table(figures: Figures) -> str:
    """A Markdown table: mean and, of several seeds, ± their sample standard deviation; and chance."""
    columns = sorted({column for _, column in figures}, key=_column_order)
    guessed = chances()
    rows = {}
    for row in sorted({row for row, _ in figures} | {CHANCE}, key=_row_order):
        cells = []
        for column in columns:
            values = list(figures.get((row, column), {}).values())
            if row == CHANCE and column not in guessed:
                values = values[:1] or _chance_of_labels(column, guessed)
            elif row == CHANCE:
                values = [guessed[column]]
            cells.append(mean_and_spread(values))
        rows[row] = cells
    return markdown(columns, rows)


def _chance_of_labels(column: str, guessed: dict[str, float]) -> list[float]:
    return [guessed[MEASURED['knn']]] if column.endswith('a class') else []


def _column_order(column: str) -> tuple:
    order = [*EVALUATED.values(), *MEASURED.values()]
    if column in order:
        return 0, order.index(column), ''
    words = column.split()
    if words[0] == 'CamVid':
        return 2, int(words[1]), column
    return 1, int(words[0]), column


def _row_order(row: str) -> tuple:
    if row == CHANCE:
        return 0, 0
    names = [*METHODS, *(f'teacher {name}' for name in TEACHERS)]
    return 1, names.index(row)


def legend(figures: Figures) -> str:
    """A list of what the rows are."""
    shown = {row for row, _ in figures}
    return '\n'.join(f'- `{name}`: {method.label}' for name, method in METHODS.items() if name in shown)


def claims(figures: Figures) -> str:
    """A list of what the segmentations say to each of the paper's claims, seed by seed."""
    columns = sorted({column for _, column in figures if column.startswith('CamVid')}, key=_column_order)
    lines = []
    for claim, (better, worse) in CLAIMS.items():
        found = []
        for column in columns:
            over, under = (figures.get((row, column), {}) for row in (better, worse))
            gaps = [over[seed] - under[seed] for seed in sorted(set(over) & set(under))]
            if gaps:
                wins = sum(gap > 0 for gap in gaps)
                found.append(f'{column} {mean_and_spread(gaps)} ({wins} of {len(gaps)} seeds)')
        if found:
            lines.append(f'- {claim}: {"; ".join(found)}')
    return '\n'.join(lines)


def draw(figures: Figures, path: Path) -> None:
    """Draw accuracy and mIoU over the number of labels, a line a method.

    Args:
        figures: As :func:`collect` gives them.
        path: PNG or PDF to write.
    """
    names = ('held-out classes, fine-tuned (%)', 'CamVid, fine-tuned (mIoU %)', 'CamVid, frozen (mIoU %)')
    panels: dict[str, dict[str, list]] = {name: defaultdict(list) for name in names}
    for row in METHODS:
        for (name, column), values in figures.items():
            words = column.split()
            if name != row or not (words[0] == 'CamVid' or words[0].isdigit()):
                continue
            labels = int(words[1] if words[0] == 'CamVid' else words[0])
            panel = names[(words[0] == 'CamVid') + column.endswith('frozen')]
            panels[panel][row].append((labels, list(values.values())))
    panels = {name: curves for name, curves in panels.items() if curves}
    if panels:
        draw_curves(panels, 'labels', path)
