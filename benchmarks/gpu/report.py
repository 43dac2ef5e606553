"""What the stages of the GPU check find: lines of JSON, written as soon as they are known."""

import json
import math
import os
from pathlib import Path
from typing import Any

RESULTS, TABLE, LOG, PROFILE = 'results.jsonl', 'table.md', 'log.txt', 'profile.txt'
END = 'stage'  # the name in a line that tells how a stage ended


def add_line(folder: Path, **fields: Any) -> None:
    """Append a line of JSON to the results; several processes may do so at once."""
    line = json.dumps(fields, ensure_ascii=False) + '\n'
    handle = os.open(folder / RESULTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def read_lines(folder: Path) -> list[dict]:
    """The lines that were written whole, in their order."""
    path = folder / RESULTS
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(errors='replace').splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:  # cut off
            continue
    return lines


class Report:
    """Takes what a stage finds.

    Args:
        folder: Of the results.
        stage: Number of the stage.
        scratch: Folder for this stage's temporary files.
    """

    def __init__(self, folder: Path, stage: int, scratch: Path) -> None:
        self.folder = folder
        self.stage = stage
        self.scratch = scratch

    @property
    def log(self) -> Path:
        """File that processes of this stage write their output to."""
        return self.folder / LOG

    def add(
        self,
        name: str,
        value: float | int | str | None,
        unit: str = '',
        criterion: str = '',
        passed: bool | None = None,
    ) -> None:
        """Write a finding.

        Args:
            name: Of what.
            value: The finding.
            unit: Of a number.
            criterion: What it must be, in words.
            passed: Whether it is. Default None: there is no criterion.
        """
        if hasattr(value, 'item'):
            value = value.item()
        passed = None if passed is None else bool(passed)
        line = dict(stage=self.stage, name=name, value=value, unit=unit, criterion=criterion, passed=passed)
        add_line(self.folder, **line)
        print(f'{name}: {shown(value)} {unit} {criterion} {"" if passed is None else passed}', flush=True)

    def at_most(self, name: str, value: float, limit: float, unit: str = '') -> None:
        """Write a finding that must not be above a limit; NaN is."""
        self.add(name, value, unit, f'≤ {limit:g}', value <= limit)

    def at_least(self, name: str, value: float, limit: float, unit: str = '') -> None:
        """Write a finding that must not be below a limit; NaN is."""
        self.add(name, value, unit, f'≥ {limit:g}', value >= limit)

    def near(self, name: str, value: float, expected: float, tolerance: float, unit: str = '') -> None:
        """Write a finding that must be close to a value."""
        near = abs(value - expected) <= tolerance
        self.add(name, value, unit, f'{expected:g} ± {tolerance:g}', near)


def shown(value: object) -> str:
    """A value for people: numbers with four digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return '' if value is None else str(value)
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    return f'{value:.0f}' if abs(value) >= 1000 else f'{value:.4g}'


def table(folder: Path, command: str, date: str) -> str:
    """Markdown of all that was found so far.

    Args:
        folder: Of the results.
        command: That found it.
        date: When.
    """
    lines = read_lines(folder)
    facts = {line['name']: line.get('value') for line in lines if line['stage'] == 1}
    about = ('card', 'driver', 'torch', 'CUDA', 'cuDNN', 'triton')
    told = ', '.join(f'{name} {facts[name]}' for name in about if name in facts)
    rows = [f'## GPU check, {facts.get("card", "unknown card")}', '']
    rows += [
        f'* Date: {date}',
        f'* {told or "versions: stage 1 did not tell"}',
        f'* Command: `{command}`',
        '',
    ]
    rows += ['| stage | finding | value | criterion | passed |', '|---' * 5 + '|']
    for number in dict.fromkeys(line['stage'] for line in lines):
        own = [line for line in lines if line['stage'] == number]
        for line in own:
            if line['name'] == END:
                what = f'**{line["status"]}**, {line["seconds"]:.0f} s'
                error = (line.get('error') or '').strip().splitlines()
                rows.append(
                    f'| {number} | {line["module"]} | {what} | {_cell(error[-1]) if error else ""} | |'
                )
                continue
            passed = {True: 'yes', False: '**no**', None: ''}[line['passed']]
            value = f'{shown(line["value"])} {line["unit"]}'.strip()
            rows.append(
                f'| {number} | {_cell(line["name"])} | {_cell(value)} | {line["criterion"]} | {passed} |'
            )
    return '\n'.join(rows) + '\n'


def _cell(text: str) -> str:
    return text.replace('|', '/').replace('\n', ' ')[:200]
