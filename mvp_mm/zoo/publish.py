"""A work dir or a checkpoint into an entry that others load by its name."""

import dataclasses
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from mmengine.config import Config
from safetensors import torch as safetensors
from torch import Tensor

from ..engine.checkpoint.safe_checkpoint import saved_checkpoints
from ..engine.run_log import Run, read_run
from ..version import __version__
from ..weights.bias_tables import INDEX, TABLE, Grid
from ..weights.fit_positions import grid_of_positions, indices_of, times
from ..weights.read import BACKBONE, read_checkpoint, recorded_grid, tensors_by_name
from .complexity import complexity
from .custom_zoos import INDEX as INDEX_FILE
from .custom_zoos import config_of
from .entries import entry_of, rows_of
from .hub import build_published

NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]*')
# Of a log, what tells about the machine and not about the model.
NO_METRICS = ('time', 'data_time', 'memory', 'host_memory', 'images_per_second')


@dataclasses.dataclass(frozen=True)
class Published:
    """An entry, written.

    Args:
        weights: safetensors file.
        config: The whole config as plain data.
        metrics: What is known of the run: JSON.
        index: The zoo's metafile, which has the row.
        row: The row.
    """

    weights: Path
    config: Path
    metrics: Path
    index: Path
    row: dict[str, Any]

    def row_as_yaml(self) -> str:
        """The row as it can be pasted into a metafile."""
        return yaml.safe_dump([self.row], sort_keys=False, allow_unicode=True)


def publish(
    source: str | Path,
    zoo: str | Path,
    name: str | None = None,
    config: str | Path | None = None,
    metrics: str | Path | None = None,
    note: str = '',
) -> Published:
    """Write a model into a zoo that :func:`~mvp_mm.zoo.add_zoo` reads.

    The weights are tensors only (no optimiser, no log), as safetensors with the first digits of their sha256
    in the name. What is written is loaded once, as a user will load it, before anything gets its name; the
    index comes last. A failed call leaves nothing.

    Args:
        source: Work dir (then its last checkpoint), or checkpoint.
        zoo: Folder, made if it is not there. A row of the same name in its ``metafile.yml`` is replaced.
        name: Of the model. Default None: the work dir's.
        config: Config file. Default None: the one that the run has left in the work dir.
        metrics: JSON file of ``tools/test.py --out`` with the figures for the row. Default None: those of the
            last validation before the checkpoint, where the work dir has a log.
        note: A word for the row.

    Returns:
        What was written.

    Raises:
        FileNotFoundError: If there is no checkpoint, or no config.
        ValueError: If the checkpoint does not fill the config's model, the config cannot be published
            (it has parts that no config of this package has), or the name is no file name.
    """
    checkpoint = _checkpoint(Path(source).expanduser())
    work_dir = checkpoint.parent
    path = Path(config) if config is not None else _config_in(work_dir)
    name = name or work_dir.absolute().name
    if not NAME.fullmatch(name):
        raise ValueError(f'{name!r} is no name for a model: letters, digits, and - _ . within')
    cfg = Config.fromfile(path)
    content = read_checkpoint(checkpoint)
    meta = content.get('meta') if isinstance(content, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    done = {key: meta[key] for key in ('epoch', 'iter') if isinstance(meta.get(key), int)}
    figures = _figures(work_dir, done.get('iter'), metrics)
    about = dict(name=name, checkpoint=checkpoint.name, mvp_mm=__version__, **done)
    weights, grid = _plain_weights(tensors_by_name(content, checkpoint))
    about |= {} if grid is None else {'grid': times(grid)}
    blob = safetensors.save(weights, metadata={'format': 'pt', **{k: str(v) for k, v in about.items()}})
    digest = hashlib.sha256(blob).hexdigest()
    settings = _as_json(cfg.to_dict(), path)
    stem = f'{name}-{digest[:8]}'
    files = {
        f'{stem}.safetensors': blob,
        f'{stem}.json': settings,
        f'{stem}.metrics.json': _as_json({**about, **figures}, checkpoint),
    }
    row = _row(name, cfg, done, figures['validation'], note)
    row |= {
        'Weights': f'{stem}.safetensors',
        'SHA256': digest,
        'Config': f'{stem}.json',
        'Config SHA256': hashlib.sha256(settings).hexdigest(),
    }
    zoo = Path(zoo).expanduser()
    zoo.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.publish-', dir=zoo) as scratch:
        for file, data in files.items():
            _write(Path(scratch) / file, data)
        _require_that_it_loads(row, Path(scratch))
        for file in files:
            os.replace(Path(scratch) / file, zoo / file)
        index = zoo / INDEX_FILE
        with FileLock(zoo / f'.{INDEX_FILE}.lock'):
            _write(Path(scratch) / INDEX_FILE, _index_with(row, index))
            os.replace(Path(scratch) / INDEX_FILE, index)
    return Published(*(zoo / file for file in files), index, row)


def _checkpoint(source: Path) -> Path:
    if not source.is_dir():
        return source
    saved = [path for path in saved_checkpoints(source) if path.is_file()]
    if not saved:
        raise FileNotFoundError(f'there is no checkpoint in {source}: give a work dir, or a checkpoint')
    return saved[0]


def _config_in(work_dir: Path) -> Path:
    found = sorted(work_dir.glob('*.py'))
    if len(found) != 1:
        there = ', '.join(path.name for path in found) or 'none'
        raise FileNotFoundError(
            f'expected the one config that a run leaves in {work_dir}, found {there}: name it with --config'
        )
    return found[0]


def _plain_weights(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], Grid | None]:
    """Weights without the position indices, which can be large, and the patch grid that tells them."""
    grid = recorded_grid(weights, BACKBONE)
    tables = {name: table for name, table in weights.items() if name.endswith(TABLE)}
    if grid is None and tables:
        grid = grid_of_positions(tables, indices_of(weights))
    kept = {name: value for name, value in weights.items() if grid is None or not name.endswith(INDEX)}
    # Cloned, because safetensors refuses two names for one memory.
    return {name: value.detach().clone().contiguous() for name, value in kept.items()}, grid


def _figures(work_dir: Path, iteration: int | None, metrics: str | Path | None) -> dict[str, Any]:
    """What is known of a run at a checkpoint: the last values logged until then, and the validation's."""
    try:
        run = read_run(work_dir)
    except FileNotFoundError:
        run = Run('')
    logged = {}
    for key, points in run.curves.items():
        past = [value for at, value in points if iteration is None or at <= iteration]
        if past and key not in NO_METRICS:
            logged[key] = past[-1]
    if metrics is not None:
        try:
            given = json.loads(Path(metrics).read_text())
        except ValueError as error:
            raise ValueError(f'{metrics} is no JSON file of metrics: {error}') from error
    else:
        given = {key: value for key, value in logged.items() if key in run.validation_keys}
    return dict(logged=logged, validation=given)


def _as_json(content: dict[str, Any], source: Path) -> bytes:
    try:
        return json.dumps(content, indent=1).encode() + b'\n'
    except TypeError as error:
        raise ValueError(f'{source} cannot be written as plain data: {error}') from error


def _write(path: Path, data: bytes) -> None:
    with path.open('wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _row(name: str, cfg: Config, done: dict[str, int], validation: dict[str, float], note: str) -> dict:
    task, counts, loader = _task(cfg), complexity(cfg), cfg.get('train_dataloader') or {}
    dataset = (loader.get('dataset') or {}).get('type', 'not known')
    about: dict[str, Any] = dict(Task=task, Parameters=counts.parameters, FLOPs=counts.flops)
    if 'epoch' in done and cfg.get('train_cfg', {}).get('max_iters') is None:
        about['Epochs'] = done['epoch']
    elif 'iter' in done:
        about['Iterations'] = done['iter']
    batch = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    about |= {'Batch Size': batch} if batch else {}
    about['Training Data'] = dataset
    about |= {'Note': note} if note else {}
    numbers = {key: value for key, value in validation.items() if isinstance(value, int | float)}
    results = [dict(Task=task, Dataset=f'{dataset}, validation', Metrics=numbers)] if numbers else None
    return dict(Name=name, Metadata=about, Results=results)


def _task(cfg: Config) -> str:
    if 'decode_head' in cfg.model:
        return 'Semantic Segmentation'
    if 'backbone' not in cfg.model:
        return 'Teacher'
    return 'Image Classification' if cfg.model.type.split('.')[-1] == 'ImageClassifier' else 'Pre-training'


def _require_that_it_loads(row: dict[str, Any], folder: Path) -> None:
    entry = entry_of(row, folder, str(folder))
    try:
        build_published(config_of(entry), entry.weights, whole=True)
    except ValueError as error:
        raise ValueError(f'{row["Name"]} would not load, so it is not published: {error}') from error


def _index_with(row: dict[str, Any], index: Path) -> bytes:
    """The index with a row added, or in the place of the one of its name."""
    rows = rows_of(index.read_text(encoding='utf-8'), str(index)) if index.is_file() else []
    names = [known.get('Name') for known in rows]
    if row['Name'] in names:
        rows[names.index(row['Name'])] = row
    else:
        rows.append(row)
    return yaml.safe_dump(dict(Models=rows), sort_keys=False, allow_unicode=True).encode()
