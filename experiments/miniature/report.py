"""The table and the plot of an experiment, from the figures of its jobs."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mvp_mm.datasets.scenes import COLOURS, SHAPES

from ..curves import draw_curves
from ..jobs import result_file
from ..recipes import TUNING
from ..tables import markdown, mean_and_spread
from .plan import CHANCE, MAIN, PRETRAININGS, Budget, Job, plan

PROBES = {'shape': 'shape', 'colour': 'colour', 'knn_shape': 'k-NN shape', 'knn_colour': 'k-NN colour'}

# By names, at the end of a training; the teacher's, by the same code, have `teacher_` before the last part.
NAMED = {
    'shape/top1': 'named shape',
    'colour/top1': 'named colour',
    'open_vocabulary/mIoU': 'named mIoU',
}

CHANCES = {
    column: 100 / len(SHAPES if 'shape' in column else COLOURS)
    for column in (*PROBES.values(), *NAMED.values())
    if 'mIoU' not in column
}

Figures = dict[tuple[str, str], list[float]]


def collect(jobs: list[Job], out: Path) -> Figures:
    """The figures of the jobs that are done, over the seeds, by (row, column)."""
    figures: Figures = defaultdict(list)
    for job in jobs:
        path = result_file(out, job.name)
        if not path.exists() or job.name.startswith(TUNING):
            continue
        result = json.loads(path.read_text())
        row = f'teacher {job.guidance}' if job.kind == 'probe-teacher' else job.guidance
        if job.kind == 'segment':
            column = f'mIoU {job.labels}' + (' frozen' if job.frozen else '')
            figures[row, column].append(result['miou'])
        elif job.kind == 'pretrain':
            for key in ('target_cosine/cosine', 'target_cosine/excess'):
                if key in result:
                    figures[row, key.split('/')[1]].append(result[key])
        elif job.kind == 'watch':
            last = result[max((key for key in result if key.isdigit()), key=int)]
            for key, column in NAMED.items():
                of_teacher = key.replace('/', '/teacher_')
                if key in last:
                    figures[row, column].append(last[key])
                if of_teacher in last and PRETRAININGS[row].config:
                    figures[f'teacher {row}', column] = [last[of_teacher]]
        else:
            for key, column in PROBES.items():
                figures[row, column].append(result[key])
    return dict(figures)


def add_beside(figures: Figures, own: Iterable[str], folder: Path, length: Budget) -> dict[str, dict]:
    """Add another experiment's rows of the main guidances that are not there yet, teachers' too.

    Args:
        figures: To which they are added.
        own: This experiment's own guidances, of which none is added.
        folder: Of an experiment whose segmentations learn by the same number of steps.
        length: Of this experiment: seeds, labels and recipes to look for.

    Returns:
        The settings of that experiment for each row that has figures of it.

    Raises:
        ValueError: If its segmentations took another number of steps.
    """
    about = json.loads((folder / 'experiment.json').read_text())
    if about['steps'] != length.steps:
        raise ValueError(
            f'{folder} cannot stand beside: its segmentations took {about["steps"]} steps, and here they '
            f'take {length.steps}'
        )
    others = [name for name in MAIN if name not in set(own)]
    found = collect(plan(others, about['seeds'], about['labels'], length), folder)
    for key, values in found.items():
        figures.setdefault(key, values)
    return {row: about for row, _ in found}


def legend(rows: Iterable[str], settings: dict[str, dict]) -> str:
    """A Markdown table of what the rows are.

    Args:
        rows: Names of ``PRETRAININGS``; others are left out.
        settings: Of each row, the numbers of ``Budget`` by which it was trained.
    """
    cells = {}
    for row in sorted({row for row in rows if row in PRETRAININGS}, key=_row_order):
        guidance, about = PRETRAININGS[row], settings[row]
        steps = about['scenes'] // guidance.batch * max(1, round(about['epochs'] * guidance.epochs_factor))
        trained = [f'{steps:,} of {guidance.batch}', f'{about["scenes"]:,}'] if guidance.config else ['', '']
        cells[row] = [guidance.label, *trained]
    return markdown(['pre-training', 'steps', 'scenes'], cells)


def table(figures: Figures) -> str:
    """A Markdown table: mean and, of several seeds, ± their sample standard deviation; and chance."""
    columns = sorted({column for _, column in figures}, key=_column_order)
    chances = {(CHANCE, column): [value] for column, value in CHANCES.items() if column in columns}
    figures = chances | figures
    rows = sorted({row for row, _ in figures}, key=_row_order)
    return markdown(
        columns, {row: [_cell(figures.get((row, column)), column) for column in columns] for row in rows}
    )


def _column_order(column: str) -> tuple:
    order = [*PROBES.values(), 'cosine', 'excess', *NAMED.values()]
    if column in order:
        return order.index(column), 0, ''
    words = column.split()
    return len(order), int(words[1]), column


def _row_order(row: str) -> tuple:
    if row == CHANCE:
        return False, -1
    teacher = row.startswith('teacher ')
    return teacher, list(PRETRAININGS).index(row.removeprefix('teacher '))


def _cell(values: list[float] | None, column: str) -> str:
    return mean_and_spread(values or [], 3 if column in ('cosine', 'excess') else 1)


def draw(figures: Figures, path: Path) -> None:
    """mIoU over the number of labelled scenes, a line a guidance, bars of one standard deviation.

    Args:
        figures: As :func:`collect` gives them.
        path: PNG or PDF to write.
    """
    curves: dict[str, list[tuple[int, list[float]]]] = defaultdict(list)
    for (row, column), values in figures.items():
        words = column.split()
        if words[0] == 'mIoU' and len(words) == 2:
            curves[row].append((int(words[1]), values))
    ordered = {row: curves[row] for row in sorted(curves, key=_row_order)}
    draw_curves({'mIoU (%)': ordered}, 'labelled scenes', path)
