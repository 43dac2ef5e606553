"""Rows of OpenMMLab's metafiles: the models that a zoo has by name."""

import functools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SHIPPED = Path(__file__).parents[1] / '.mim'
CONFIGS = SHIPPED / 'configs'
NO_MODELS = ('_base_', 'zero_shot')  # parts of configs, and evaluations of models that have a row
SHA256 = re.compile('[0-9a-f]{64}')


@dataclass(frozen=True)
class Entry:
    """One row. A place is a path of this machine or an address."""

    name: str
    config: str  # place of the config file
    zoo: str = 'mvp_mm'  # or the place of a custom zoo
    task: str = ''  # such as 'Pre-training'
    parameters: int | None = None  # see zoo.complexity
    flops: int | None = None
    weights: str | None = None  # place of the weights, if there are any
    sha256: str | None = None
    config_sha256: str | None = None
    mirrors: tuple[str, ...] = ()  # more places of the weights
    results: dict[str, float] = field(default_factory=dict)  # measured, by 'task / dataset / metric'
    paper: dict[str, float] = field(default_factory=dict)  # the paper's, by metric
    note: str = ''  # where weights or results come from


def entry_of(row: dict[str, Any], base: str | Path, zoo: str = 'mvp_mm') -> Entry:
    """Convert a row (docs/model_zoo.md), whose paths are relative to a folder or an address ``base/``.

    ValueError if a key is missing or its value invalid.
    """
    if not isinstance(row, dict) or not isinstance(row.get('Name'), str):
        raise ValueError(f'{zoo}: a row has no Name: {row!r:.80}')
    where = f'{zoo}: the row of {row["Name"]}'
    if not isinstance(row.get('Config'), str):
        raise ValueError(f'{where} has no Config')
    for key in ('SHA256', 'Config SHA256'):
        if row.get(key) is not None and not SHA256.fullmatch(str(row[key])):
            raise ValueError(f'{where} has {key} {row[key]!r}: expected 64 hexadecimal digits')

    def place(path: str) -> str:
        if '://' in path:
            return path
        return base + path if isinstance(base, str) else str(base / path)

    about = row.get('Metadata') or {}
    return Entry(
        name=row['Name'],
        config=place(row['Config']),
        zoo=zoo,
        task=str(about.get('Task') or ''),
        parameters=about.get('Parameters'),
        flops=about.get('FLOPs'),
        weights=place(row['Weights']) if row.get('Weights') else None,
        sha256=row.get('SHA256'),
        config_sha256=row.get('Config SHA256'),
        mirrors=tuple(map(place, row.get('Mirrors') or ())),
        results={
            f'{result.get("Task")} / {result.get("Dataset")} / {metric}': value
            for result in row.get('Results') or ()
            for metric, value in (result.get('Metrics') or {}).items()
        },
        paper=dict(about.get('Paper Results') or {}),
        note=str(about.get('Note') or ''),
    )


def rows_of(text: str, source: str) -> list[dict[str, Any]]:
    """Parse the rows of a metafile, YAML or JSON, running nothing in it; ValueError if it is none."""
    try:
        content = json.loads(text) if source.endswith('.json') else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f'{source} cannot be read: {str(error).splitlines()[0]}') from error
    rows = content.get('Models') if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise ValueError(f'{source} is no metafile: it has no list `Models`')
    return rows


@functools.cache
def shipped_entries() -> dict[str, Entry]:
    """Return the package's own rows by name; a config without a row is called ``<folder>_<file>``."""
    entries = [
        entry_of(row, SHIPPED)
        for path in CONFIGS.glob('*/metafile.yml')
        for row in rows_of(path.read_text(encoding='utf-8'), str(path))
    ]
    listed = {Path(entry.config) for entry in entries}
    others = [path for path in CONFIGS.glob('*/*.py') if path.parent.name not in NO_MODELS]
    entries += [Entry(f'{path.parent.name}_{path.stem}', str(path)) for path in others if path not in listed]
    return {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}
