"""Models by name: every config that the package ships, and whatever further zoos have."""

import difflib
import fnmatch
from pathlib import Path

from mmengine.config import Config
from mmpretrain.apis.model import ModelHub
from torch import nn

from ..models.from_config import build_from_config, build_student, build_teacher
from ..stack import quiet_stack_noise
from .custom_zoos import all_entries, config_of, local_file
from .entries import SHIPPED, Entry, shipped_entries


def list_models(pattern: str = '*', task: str | None = None, pretrained: bool = False) -> list[str]:
    """Names of the models, such as ``mvp_vitb16_in1k``.

    Args:
        pattern: Shell-style pattern. Default: all.
        task: Only models for this: ``'Pre-training'``, ``'Image Classification'``, ``'Semantic
            Segmentation'`` or ``'Teacher'``, in capitals or not. Default None: all.
        pretrained: Only models whose weights can be had. Default False.

    Raises:
        ValueError: If there is no such task.
    """
    entries = all_entries()
    if task is not None:
        tasks = {entry.task.lower(): entry.task for entry in entries.values() if entry.task}
        if task.lower() not in tasks:
            raise ValueError(f'there is no task {task!r}; there is: {", ".join(sorted(tasks.values()))}')
        entries = {name: entry for name, entry in entries.items() if entry.task.lower() == task.lower()}
    names = [name for name, entry in entries.items() if entry.weights or not pretrained]
    return fnmatch.filter(names, pattern)


def find_entry(name: str) -> Entry:
    """What is known of a model.

    Args:
        name: One of :func:`list_models`.

    Raises:
        ValueError: If the name is unknown.
    """
    entries = all_entries()
    if name in entries:
        return entries[name]
    as_path = name.removeprefix('mvp_mm::').removeprefix('configs/').removesuffix('.py').replace('/', '_')
    close = [as_path] if as_path in entries else difflib.get_close_matches(as_path, entries, n=4)
    hint = f'did you mean {" or ".join(close)}?' if close else 'mvp_mm.list_models() gives the names'
    raise ValueError(f'there is no model {name!r}: {hint}')


def model_config(name: str) -> Config:
    """The config of a model.

    Args:
        name: One of :func:`list_models`, or the path of a config file.

    Raises:
        ValueError: If the name is unknown, or the config of a further zoo is not plain data.
    """
    if not (name.endswith('.py') and Path(name).is_file()):
        entry = find_entry(name)
        if not _is_shipped(entry):
            return config_of(entry)
        name = entry.config
    with quiet_stack_noise():
        return Config.fromfile(name)


def _is_shipped(entry: Entry) -> bool:
    return shipped_entries().get(entry.name) is entry


def download_weights(name: str) -> Path:
    """The published weights of a model, on this machine; downloaded where they are not yet.

    Args:
        name: One of :func:`list_models`.

    Raises:
        ValueError: If the name is unknown, has no weights, or they are not what their sha256 says.
        OSError: If they cannot be had; says what was tried.
    """
    entry = find_entry(name)
    if entry.weights is None:
        there = ', '.join(list_models(pretrained=True))
        raise ValueError(
            f'there are no published weights of {name}: {entry.note or "no word why."} Give '
            f'pretrained=FILE_OR_URL. Weights there are of: {there}'
        )
    return local_file(entry.weights, entry.sha256, entry.mirrors)


def get_model(name: str, pretrained: bool | str = False, **overrides) -> nn.Module:
    """A model by its name.

    Args:
        name: One of :func:`list_models`, or the path of a config file.
        pretrained: False for the initialisation; True for the published weights; or a weight file or
            address: of the whole model, or a pre-training checkpoint for its backbone.
        **overrides: Values of the config's ``model`` to override, by key.

    Returns:
        The model in eval mode. Of a pre-training entry of a further zoo the student alone, an
        :class:`MVPViT`: no teacher is built at another's word.

    Raises:
        ValueError: If the name is unknown, or there are no published weights.
        FileNotFoundError: If there is no such weight file.
    """
    cfg = model_config(name)
    if overrides:
        cfg.merge_from_dict({'model': overrides})
    return build_published(cfg, str(download_weights(name)) if pretrained is True else pretrained or None)


def build_published(cfg: Config, weights: str | None, whole: bool = False) -> nn.Module:
    """What :func:`get_model` gives for a config, as a file's or as plain data of a further zoo.

    Args:
        cfg: From :func:`model_config`.
        weights: File or address, or None.
        whole: Refuse a file that fills a model's backbone only. Default False.
    """
    if 'backbone' not in cfg.model:
        return build_teacher(cfg, weights)
    if 'target_generator' in cfg.model and cfg.filename is None:  # plain data
        return build_student(cfg, weights)
    return build_from_config(cfg, weights, whole=whole)


def register_in_mmpretrain() -> None:
    """Give ``mmpretrain.get_model`` and ``mmpretrain.list_models`` the package's own names.

    Weights come with them where mmpretrain's way of loading fills the model: teachers are left to
    :func:`get_model`.
    """
    index = SHIPPED / 'model-index.yml'  # not there in a source archive that was unpacked and not installed
    if not index.is_file() or any(ModelHub.has(name) for name in shipped_entries()):
        return
    ModelHub.register_model_index(index, config_prefix=SHIPPED)
    for name, entry in shipped_entries().items():
        if ModelHub.has(name):
            row = ModelHub._models_dict[name]
            row.weights = None if entry.task == 'Teacher' else entry.weights
