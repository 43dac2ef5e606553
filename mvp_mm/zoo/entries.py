"""Rows of OpenMMLab's metafiles: what there is to be had under a name."""

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

import yaml

SHIPPED = Path(__file__).parents[1] / '.mim'
CONFIGS = SHIPPED / 'configs'
SHA256 = re.compile('[0-9a-f]{64}')


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row.

    Args:
        name: Of the model.
        config: Config file: a path of this machine, or an address.
        zoo: Where the row is from: ``'mvp_mm'``, or the place of a further zoo.
        task: Such as ``'Pre-training'`` or ``'Semantic Segmentation'``.
        parameters: See :func:`~mvp_mm.zoo.complexity.complexity`. Default None: not known.
        flops: Likewise.
        weights: Path or address of the weights. Default None: there are none.
        sha256: Of the weights, in hexadecimal.
        config_sha256: Of the config, in a zoo other than the package's.
        mirrors: Further addresses of the same weights.
        results: What was measured, as ``{'task / dataset / metric': value}``.
        paper: What the paper reports, by metric.
        note: A word on where the weights or the figures come from.
    """

    name: str
    config: str
    zoo: str = 'mvp_mm'
    task: str = ''
    parameters: int | None = None
    flops: int | None = None
    weights: str | None = None
    sha256: str | None = None
    config_sha256: str | None = None
    mirrors: tuple[str, ...] = ()
    results: dict[str, float] = dataclasses.field(default_factory=dict)
    paper: dict[str, float] = dataclasses.field(default_factory=dict)
    note: str = ''


def entry_of(row: dict[str, Any], base: str | Path, zoo: str = 'mvp_mm') -> Entry:
    """A row of a metafile.

    Args:
        row: With the keys that docs/model_zoo.md explains.
        base: Folder, or address ending with ``/``, that the row's paths start from.
        zoo: Where it is from.

    Raises:
        ValueError: If a key is missing or has no such value.
    """
    if not isinstance(row, dict) or not isinstance(row.get('Name'), str):
        raise ValueError(f'{zoo}: a row has no Name: {row!r:.80}')
    where = f'{zoo}: the row of {row["Name"]}'
    if not isinstance(row.get('Config'), str):
        raise ValueError(f'{where} has no Config')
    for key in ('SHA256', 'Config SHA256'):
        if row.get(key) is not None and not SHA256.fullmatch(str(row[key])):
            raise ValueError(f'{where} has {key} {row[key]!r}: expected 64 hexadecimal digits')
    about = row.get('Metadata') or {}
    weights = row.get('Weights')
    return Entry(
        name=row['Name'],
        config=_place(row['Config'], base),
        zoo=zoo,
        task=str(about.get('Task') or ''),
        parameters=about.get('Parameters'),
        flops=about.get('FLOPs'),
        weights=_place(weights, base) if weights else None,
        sha256=row.get('SHA256'),
        config_sha256=row.get('Config SHA256'),
        mirrors=tuple(_place(mirror, base) for mirror in row.get('Mirrors') or ()),
        results={
            f'{result.get("Task")} / {result.get("Dataset")} / {metric}': value
            for result in row.get('Results') or ()
            for metric, value in (result.get('Metrics') or {}).items()
        },
        paper=dict(about.get('Paper Results') or {}),
        note=str(about.get('Note') or ''),
    )


def _place(path: str, base: str | Path) -> str:
    if '://' in path:
        return path
    return base + path if isinstance(base, str) else str(base / path)


def rows_of(text: str, source: str) -> list[dict[str, Any]]:
    """The rows of a metafile, which is YAML or JSON; nothing in it is run.

    Raises:
        ValueError: If it is no metafile.
    """
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
    """The package's own rows by name; a config without a row is named ``<folder>_<file>`` all the same."""
    entries = [
        entry_of(row, SHIPPED)
        for path in sorted(CONFIGS.glob('*/metafile.yml'))
        for row in rows_of(path.read_text(encoding='utf-8'), str(path))
    ]
    listed = {Path(entry.config) for entry in entries}
    for path in CONFIGS.glob('*/*.py'):
        if path.parent.name != '_base_' and path not in listed:
            entries.append(Entry(f'{path.parent.name}_{path.stem}', str(path)))
    return {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}
