"""Models by name: every config that the package ships, and those of custom zoos."""

import difflib
import fnmatch
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.apis.model import ModelHub
from torch import nn

from ..engine.config import is_config_file, read_config
from ..models.from_config import build_from_config, build_prompt_classifier, build_student, build_teacher
from ..models.speaking.speaking_student import SpeakingStudent
from ..models.speaking.speaks import Speaks
from ..models.speaking.speech import Speech
from ..weights.locate import FOLDER_FILES
from .complexity import kind_of
from .custom_zoos import all_entries, config_of
from .downloads import fetch
from .entries import SHIPPED, Entry, shipped_entries


def list_models(pattern: str = '*', task: str | None = None, pretrained: bool = False) -> list[str]:
    """List the names of the models, such as ``mvp_vitb16_in1k``.

    Args:
        pattern: Shell-style pattern. Default: all.
        task: Such as ``'Pre-training'`` or ``'Teacher'``, in capitals or not. Default None: all.
        pretrained: Only models that have weights. Default False.

    Raises:
        ValueError: If there is no such task.
    """
    entries = all_entries()
    tasks = {entry.task.lower(): entry.task for entry in entries.values() if entry.task}
    if task is not None and task.lower() not in tasks:
        raise ValueError(f'there is no task {task!r}; there is: {", ".join(sorted(tasks.values()))}')
    names = [
        name
        for name, entry in entries.items()
        if (task is None or entry.task.lower() == task.lower()) and (entry.weights or not pretrained)
    ]
    return fnmatch.filter(names, pattern)


def find_entry(name: str) -> Entry:
    """Return the entry of one of :func:`list_models`; ValueError suggests near names for an unknown one."""
    entries = all_entries()
    if name in entries:
        return entries[name]
    raise ValueError(f'there is no model {name!r}: {_near(name) or "mvp_mm.list_models() gives the names"}')


def _near(name: str, likeness: float = 0.6) -> str:
    """Ask whether a model whose name is like this one was meant; '' if there is none."""
    entries = all_entries()
    as_path = name.removeprefix('mvp_mm::').removeprefix('configs/').removesuffix('.py').replace('/', '_')
    close = [as_path] if as_path in entries else difflib.get_close_matches(as_path, entries, 4, likeness)
    return f'did you mean {" or ".join(close)}?' if close else ''


def model_config(name: str) -> Config:
    """Return the config of a model by its name, one of :func:`list_models`, or of a config file by its path.

    Raises:
        ValueError: If the name is unknown, the file is no config of a model, or the config of a custom zoo is
            not plain data.
    """
    if is_config_file(name):
        return read_config(name)
    entry = find_entry(name)
    return read_config(entry.config) if shipped_entries().get(entry.name) is entry else config_of(entry)


def download_weights(name: str) -> Path:
    """Return the path of the published weights of one of :func:`list_models`, downloading them if necessary.

    Raises:
        ValueError: If the name is unknown, has no weights, or they have another sha256 than published.
        OSError: If they cannot be downloaded; says what was tried.
    """
    entry = find_entry(name)
    if entry.weights is None:
        why, there = entry.note or 'its row does not say why.', ', '.join(list_models(pretrained=True))
        advice = f'Give pretrained=FILE_OR_URL. Weights there are of: {there}'
        raise ValueError(f'there are no published weights of {name}: {why} {advice}')
    return fetch([entry.weights, *entry.mirrors], entry.sha256)


def find_weights(name: str) -> Path | None:
    """:func:`download_weights` of that model; None if there is none, or FileNotFoundError with near names."""
    if name in all_entries():
        return download_weights(name)
    if near := _near(name, 0.8):
        raise FileNotFoundError(f'there is no checkpoint {name}, and no model of that name: {near}')
    return None


def find_by_sha256(sha256: str) -> Path | None:
    """:func:`download_weights` of the model whose weights have this digest; None if there is none."""
    names = (entry.name for entry in all_entries().values() if entry.weights and entry.sha256 == sha256)
    return next(map(download_weights, names), None)


def get_model(name: str, pretrained: bool | str = False, **overrides) -> nn.Module:
    """Build a model by its name, or a student by its checkpoint.

    What MVP has trained has ``zero_shot(images, prompts)`` and ``segment_by_text(image, names)``.

    Args:
        name: One of :func:`list_models`, the path of a config file, or the path or address of a pre-training
            checkpoint or another BEiT-family weight file (or transformers' folder of one), which
            :class:`.SpeakingStudent` is built from.
        pretrained: False for the initialisation, True for the published weights, or a weight file or
            address: of the whole model, or a pre-training checkpoint for its backbone.
        **overrides: Values of the config's ``model`` to override, by key; for a checkpoint and a custom
            zoo's pre-training entry ``teacher``, the teacher's weight file.

    Returns:
        The model in eval mode; of a checkpoint and a custom zoo's pre-training entry the student alone, with
        its head.

    Raises:
        ValueError: If the name is unknown, or there are no published weights.
        FileNotFoundError: If there is no such weight file.
    """
    if _is_checkpoint(name):
        if pretrained:
            raise ValueError(f'{name} is a checkpoint: leave pretrained={pretrained!r} out')
        speech = published_speech(Path(name))
        return SpeakingStudent(name, speech=None if speech is None else speech.plain(), **overrides)
    cfg = model_config(name)
    if overrides:
        cfg.merge_from_dict({'model': overrides})
    return build_published(cfg, str(download_weights(name)) if pretrained is True else pretrained or None)


def published_speech(weights: Path) -> Speech | None:
    """Return the record of a student whose weights the package ships, where the file itself has none."""
    shipped = {Path(entry.weights).resolve(): entry for entry in shipped_entries().values() if entry.weights}
    entry = shipped.get(weights.resolve())
    model: Any = get_model(entry.name, pretrained=True) if entry else None
    record = model.speech() if isinstance(model, Speaks) and hasattr(model, 'speech') else None
    return Speech(**record) if record else None


def build_published(cfg: Config, weights: str | None, whole: bool = False) -> nn.Module:
    """Build the model of a config from :func:`model_config`; ``whole`` refuses weights of a backbone only."""
    if 'speaker' in cfg.model:
        return build_prompt_classifier(cfg, weights)
    if 'backbone' not in cfg.model:
        return build_teacher(cfg, weights)
    if 'target_generator' in cfg.model and cfg.filename is None:  # a custom zoo's
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            speech = Speech.of_config(cfg.model) if issubclass(kind_of(cfg.model), Speaks) else None
        if speech is None:
            return build_student(cfg, weights)
        student = SpeakingStudent(weights, cfg.model.get('teacher'), speech.plain())
        student.cfg = cfg
        return student
    return build_from_config(cfg, weights, whole=whole)


def _is_checkpoint(name: str) -> bool:
    path = Path(name).expanduser()
    if '://' in name or any((path / file).is_file() for file in FOLDER_FILES):
        return True
    return path.is_file() and not is_config_file(path)


def register_in_mmpretrain() -> None:
    """Add the package's models to ``mmpretrain.get_model`` and ``mmpretrain.list_models``.

    They have weights there if mmpretrain's way of loading fills the model, which it does not for teachers.
    """
    index = SHIPPED / 'model-index.yml'  # missing in a source archive that was unpacked, not installed
    if not index.is_file() or any(ModelHub.has(name) for name in shipped_entries()):
        return
    ModelHub.register_model_index(index, config_prefix=SHIPPED)
    for name, entry in shipped_entries().items():
        if ModelHub.has(name):
            row = ModelHub._models_dict[name]
            row.weights = None if entry.task in ('Teacher', 'Prompt Learning') else entry.weights
