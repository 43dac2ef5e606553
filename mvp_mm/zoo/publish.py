"""Publish a work dir or a checkpoint as an entry that others load by its name."""

import hashlib
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from ..engine.checkpoint.safe_checkpoint import saved_checkpoints
from ..engine.config import read_config
from ..engine.run_log import read_run
from ..models.speaking.speech import KEY as SPEECH
from ..models.speaking.speech import Speech
from ..version import __version__
from ..weights.bias_tables import INDEX, TABLE
from ..weights.fit_positions import grid_of_positions, indices_of, times
from ..weights.read import BACKBONE, read_checkpoint, recorded_grid, tensors_by_name
from ..weights.write import safetensors_bytes
from ..whole_file import whole_file
from .complexity import complexity, is_pretraining
from .custom_zoos import INDEX as INDEX_FILE
from .custom_zoos import config_of
from .entries import entry_of, rows_of
from .hub import build_published

ADVICE = 'free some space, and publish it again'
# By a part of a model, as the metafiles name them.
TASKS = dict(decode_head='Semantic Segmentation', roi_head='Instance Segmentation', speaker='Prompt Learning')
NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]*')
# Scalars of a log that describe the machine, not the model.
NO_METRICS = ('time', 'data_time', 'memory', 'host_memory', 'images_per_second')


@dataclass(frozen=True)
class Published:
    """A written entry: three files, the zoo's metafile and its new row."""

    weights: Path  # safetensors
    config: Path  # JSON
    metrics: Path  # JSON
    index: Path
    row: dict[str, Any]

    def row_as_yaml(self) -> str:
        """Format the row for pasting into a metafile."""
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
    in the name; a student of MVP keeps its head and its teacher's identity, and so can speak. Everything is
    loaded once, as a user will load it, before it gets its name; the index is written last. A failed call
    leaves nothing behind.

    Args:
        source: Work dir (its last checkpoint), or checkpoint.
        zoo: Folder, created if missing. A row of the same name in its ``metafile.yml`` is replaced.
        name: Name of the model. Default None: the work dir's.
        config: Config file. Default None: the one that the run left in the work dir.
        metrics: JSON file of ``tools/test.py --out``. Default None: the last validation in the log.
        note: A note for the row.

    Raises:
        FileNotFoundError: If there is no checkpoint, or no config.
        ValueError: If the config cannot be read or has parts that no config of this package has, the
            checkpoint does not fill the model, or the name is not a file name.
    """
    checkpoint = _checkpoint(Path(source).expanduser())
    work_dir = checkpoint.parent
    path = Path(config) if config is not None else _config_in(work_dir)
    name = name or work_dir.absolute().name
    if not NAME.fullmatch(name):
        raise ValueError(f'{name!r} is no name for a model: letters, digits, and - _ . within')
    cfg = read_config(path)
    content = read_checkpoint(checkpoint)
    meta = content.get('meta') if isinstance(content, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    done = {key: meta[key] for key in ('epoch', 'iter') if isinstance(meta.get(key), int)}
    logged, validation = _figures(work_dir, done.get('iter'))
    if metrics is not None:
        try:
            validation = json.loads(Path(metrics).read_text())
        except ValueError as error:
            raise ValueError(f'{metrics} is no JSON file of metrics: {error}') from error
    about: dict[str, Any] = dict(name=name, checkpoint=checkpoint.name, mvp_mm=__version__, **done)
    weights = _plain_weights(tensors_by_name(content, checkpoint), about)
    speech = Speech.of_file(checkpoint, content)
    metadata = {'format': 'pt', **{key: str(value) for key, value in about.items()}}
    blob = safetensors_bytes(weights, metadata | ({SPEECH: speech.as_json()} if speech else {}))
    digest = hashlib.sha256(blob).hexdigest()
    own_text = speech and speech.teacher.get('text_encoder')
    if own_text and 'text_encoder' in cfg.model:
        cfg.model.text_encoder = own_text  # as the file holds it, wherever its config lies
    settings = _as_json(cfg.to_dict(), path)
    stem = f'{name}-{digest[:8]}'
    files = {
        f'{stem}.safetensors': blob,
        f'{stem}.json': settings,
        f'{stem}.metrics.json': _as_json({**about, 'logged': logged, 'validation': validation}, checkpoint),
    }
    row = _row(name, cfg, done, validation, note, speech) | {
        'Weights': f'{stem}.safetensors',
        'SHA256': digest,
        'Config': f'{stem}.json',
        'Config SHA256': hashlib.sha256(settings).hexdigest(),
    }
    zoo = Path(zoo).expanduser()
    zoo.mkdir(parents=True, exist_ok=True)
    index = zoo / INDEX_FILE
    with tempfile.TemporaryDirectory(prefix='.publish-', dir=zoo) as folder:
        scratch = Path(folder)
        for file, data in files.items():
            (scratch / file).write_bytes(data)
        entry = entry_of(row, scratch, folder)
        try:
            build_published(config_of(entry), entry.weights, whole=True)
        except ValueError as error:
            raise ValueError(f'{name} would not load, so it is not published: {error}') from error
        for file in files:
            with whole_file(zoo / file, ADVICE) as temporary:
                (scratch / file).replace(temporary)
        with FileLock(zoo / f'.{INDEX_FILE}.lock'), whole_file(index, ADVICE) as temporary:
            temporary.write_bytes(_index_with(row, index))
    weights_file, config_file, metrics_file = (zoo / file for file in files)
    return Published(weights_file, config_file, metrics_file, index, row)


def _checkpoint(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise FileNotFoundError(f'there is no {source}: give a work dir, or a checkpoint')
    saved = [path for path in saved_checkpoints(source) if path.is_file()]
    if not saved:
        raise FileNotFoundError(f'there is no checkpoint in {source}: give a work dir, or a checkpoint')
    return saved[0]


def _config_in(work_dir: Path) -> Path:
    found = sorted(work_dir.glob('*.py'))
    if len(found) != 1:
        there = f'found {", ".join(path.name for path in found) or "none"}: name it with --config'
        raise FileNotFoundError(f'expected the one config that a run leaves in {work_dir}, {there}')
    return found[0]


def _plain_weights(weights: dict[str, Tensor], about: dict[str, Any]) -> dict[str, Tensor]:
    """Drop the position indices, which can be large, and record the patch grid they follow from."""
    grid = recorded_grid(weights, BACKBONE)
    tables = {name: table for name, table in weights.items() if name.endswith(TABLE)}
    if grid is None and tables:
        grid = grid_of_positions(tables, indices_of(weights))
    if grid is not None:
        about['grid'] = times(grid)
        weights = {name: value for name, value in weights.items() if not name.endswith(INDEX)}
    # Cloned, because safetensors refuses two names for one memory.
    return {name: value.detach().clone() for name, value in weights.items()}


def _figures(work_dir: Path, iteration: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Collect the last values logged up to a checkpoint, and those of the validation among them."""
    try:
        run = read_run(work_dir)
    except FileNotFoundError:
        return {}, {}
    logged = {
        key: past[-1]
        for key, points in run.curves.items()
        if key not in NO_METRICS
        and (past := [value for at, value in points if iteration is None or at <= iteration])
    }
    return logged, {key: value for key, value in logged.items() if key in run.validation_keys}


def _as_json(content: dict[str, Any], source: Path) -> bytes:
    try:
        return json.dumps(content, indent=1).encode() + b'\n'
    except TypeError as error:
        raise ValueError(f'{source} cannot be written as plain data: {error}') from error


def _row(
    name: str, cfg: Config, done: dict, validation: dict[str, Any], note: str, speech: Speech | None
) -> dict:
    task, counts = task_of(cfg), complexity(cfg)
    dataset = ((cfg.get('train_dataloader') or {}).get('dataset') or {}).get('type', 'not known')
    by_epoch = 'epoch' in done and cfg.get('train_cfg', {}).get('max_iters') is None
    about = {
        'Task': task,
        'Parameters': counts.parameters,
        'FLOPs': counts.flops,
        'Epochs': done.get('epoch') if by_epoch else None,
        'Iterations': None if by_epoch else done.get('iter'),
        'Batch Size': (cfg.get('auto_scale_lr') or {}).get('base_batch_size'),
        'Training Data': dataset,
        'Teacher': speech.teacher if speech and 'text_encoder' not in speech.teacher else None,
        'Note': note or None,
    }
    about = {key: value for key, value in about.items() if value is not None}
    numbers = {key: value for key, value in validation.items() if isinstance(value, int | float)}
    results = [dict(Task=task, Dataset=f'{dataset}, validation', Metrics=numbers)] if numbers else None
    return dict(Name=name, Metadata=about, Results=results)


def task_of(cfg: Config) -> str:
    """Return the task of a config's model, as metafiles name it."""
    for part, task in TASKS.items():
        if part in cfg.model:
            return task
    if 'backbone' not in cfg.model:
        return 'Teacher'
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmpretrain')):
        return 'Pre-training' if is_pretraining(cfg.model) else 'Image Classification'


def _index_with(row: dict[str, Any], index: Path) -> bytes:
    """Return the index with a row added, or replaced if there is one of its name."""
    rows = rows_of(index.read_text(encoding='utf-8'), str(index)) if index.is_file() else []
    by_name = {known.get('Name'): known for known in rows} | {row['Name']: row}
    return yaml.safe_dump(dict(Models=list(by_name.values())), sort_keys=False, allow_unicode=True).encode()
