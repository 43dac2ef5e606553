"""Read the numbers of training runs from MMEngine's logs, ``<work dir>/<time>/vis_data/scalars.json``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

LOG = 'scalars.json'
COUNTERS = ('step', 'iter', 'epoch')


@dataclass
class Run:
    """The numbers of one run."""

    title: str  # name of its work dir
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)  # iteration and value, by key
    validation_keys: set[str] = field(default_factory=set)  # what only validations log


def read_runs(paths: Sequence[str | Path], titles: Sequence[str] = ()) -> list[Run]:
    """Read several runs by :func:`read_run`; two of the same name are titled by their paths."""
    if titles and len(titles) != len(paths):
        raise ValueError(f'{len(titles)} titles for {len(paths)} runs')
    runs = [read_run(path) for path in paths]
    names = [run.title for run in runs]
    for run, title in zip(runs, titles or map(str, paths), strict=True):
        if titles or names.count(run.title) > 1:
            run.title = title
    return runs


def read_run(path: str | Path) -> Run:
    """Read one run from its work dir, the folder of one start, or a log file.

    All logs of a work dir are joined; where a restart repeats iterations, or a validation, the later log
    counts. A validation's own step may be an epoch, an iteration or 0, so it is put at the last training
    iteration before it. Validations alone, as tools/test.py logs them, are ignored beside a training.

    Raises:
        FileNotFoundError: If there is no log.
        ValueError: If a file is not a log of MMEngine.
    """
    paths = _find_logs(Path(path))
    last = paths[-1].resolve()
    run = Run(last.parents[2].name if last.parent.name == 'vis_data' else last.stem)
    logs = [_read_rows(log) for log in paths]
    trained = {key for rows in logs for row in rows if 'iter' in row for key in row}
    validated = {key for rows in logs for row in rows if 'iter' not in row for key in row}
    run.validation_keys = validated - trained - {*COUNTERS}
    trainings = [rows for rows in logs if any('iter' in row for row in rows)]
    for rows in trainings or logs:
        now = 0
        if trainings:
            start = next(row['iter'] for row in rows if 'iter' in row)
            for points in run.curves.values():
                points[:] = [point for point in points if point[0] < start]
            now = max((points[-1][0] for points in run.curves.values() if points), default=0)
            made_up = {key for row in takewhile(lambda row: 'iter' not in row, rows) for key in row}
            for key in made_up & run.validation_keys & run.curves.keys():
                run.curves[key] = [point for point in run.curves[key] if point[0] < now]
        for row in rows:
            now = row['iter'] if 'iter' in row else max(now, row['step'])
            skipped = COUNTERS if 'iter' in row or not trainings else (*COUNTERS, 'time', 'data_time')
            for key, value in row.items():
                if key not in skipped and isinstance(value, int | float) and not isinstance(value, bool):
                    run.curves.setdefault(key, []).append((now, float(value)))
    run.curves = {key: points for key, points in run.curves.items() if points}
    return run


def _find_logs(path: Path) -> list[Path]:
    """Return the log files of a run, the earliest first: folders are named after the time of their start."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f'there is no run {path}: give a work dir, or a log such as {LOG}')
    for pattern in (LOG, f'vis_data/{LOG}', f'*/vis_data/{LOG}'):
        if logs := sorted(path.glob(pattern)):
            return logs
    below = sorted({str(log.parents[2]) for log in path.glob(f'*/*/vis_data/{LOG}')})
    hint = f'; there are runs in {", ".join(below[:8])}' if below else ''
    raise FileNotFoundError(f'there is no log */vis_data/{LOG} in {path}{hint}')


def _read_rows(path: Path) -> list[dict]:
    lines = path.read_text(errors='replace').splitlines()
    rows: list[dict] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line or 'null')
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict) and 'step' in row:
            rows.append(row)
        elif line.strip() and (number < len(lines) or not rows):  # a killed process leaves half a line
            raise ValueError(
                f'{path} is not a log of MMEngine: line {number} is not a JSON object with a step. Logs are '
                f'<work dir>/<time>/vis_data/{LOG}'
            )
    if not rows:
        raise ValueError(f'{path} is an empty log')
    return rows
