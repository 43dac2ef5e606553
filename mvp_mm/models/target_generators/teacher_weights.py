"""Weights of teachers: find a file, read what lies beside it, require that it fits, know its statistics."""

import difflib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from ...weights.locate import is_address, local_path, weights_in
from ...weights.read import first_line, require_finite

HUB = 'hf-hub:'
LOCAL = 'local-dir:'
RANDOM_TEACHER_SEED = 0
OTHER_SCALE = 10  # above any mean or std of the 0–1 scale, below those of the 0–255 scale
Weights = Mapping[str, Tensor]
Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std


def unknown_model(library: str, name: str, known: Sequence[str], config: str) -> ValueError:
    """Return the error for a model name that a library does not know."""
    close = difflib.get_close_matches(name.split('.')[0], known, n=4, cutoff=0.5)
    hint = f'did you mean {", ".join(close)}?' if close else f'see {library}.list_models(),'
    other = f'or give a folder with {config} or hf-hub:owner/name'
    return ValueError(f'{library} knows no model {name!r}; {hint} {other}')


def no_repository(what: str, folder: str, error: Exception) -> FileNotFoundError:
    """Return the error for a repository of the hub that cannot be downloaded."""
    return FileNotFoundError(
        f'{what} could not be had. Without a network, copy the repository to a folder on this machine and '
        f'give that folder as model_name (mvp-mm pretrain: --teacher {folder}). Tried the local cache, then '
        f'the hub: {first_line(error)}.'
    )


def no_weights(what: str, option: str, places: object, error: Exception) -> FileNotFoundError:
    """Return the error for weights that cannot be downloaded from their places."""
    return FileNotFoundError(
        f'the weights {what} could not be had. Without a network, copy the file to this machine and give '
        f'model.target_generator.pretrained=FILE{option} (mvp-mm: --teacher MODEL/FILE); for a test with '
        'random weights give model.target_generator.pretrained=None (MODEL/random). Tried the local cache, '
        f'then {places}: {first_line(error)}.'
    )


@contextmanager
def same_random_weights() -> Iterator[None]:
    """Initialise networks alike each time: tests of a checkpoint meet the teacher it was trained with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_TEACHER_SEED)
        yield


@contextmanager
def random_weights(model_name: str, real: str) -> Iterator[None]:
    """Warn, and initialise a teacher alike each time; ``real`` is a ``pretrained`` that loads weights."""
    message = (
        f'The teacher {model_name} has RANDOM weights (pretrained=None): a student learns nothing from it. '
        f'To pre-train for real, give model.target_generator.pretrained {real} or a weight file.'
    )
    print_log(message, logger='current', level=logging.WARNING)
    with same_random_weights():
        yield


def local_weights(pretrained: str, names: Sequence[str], folder: Path | None = None) -> Path | None:
    """Find a weight file by path or address, or a folder by :func:`weights_in`; paths in ``folder`` too."""
    if is_address(pretrained):
        return local_path(pretrained)
    given = Path(pretrained).expanduser()
    for path in (given,) if folder is None else (given, folder / given):
        if path.is_file():
            return path
        if path.is_dir():
            return weights_in(path, names)
    return None


def read_json(path: Path) -> Any:
    """Read a JSON file; ValueError names one that is not JSON."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:  # UnicodeDecodeError as well
        raise ValueError(f'{path} is no JSON: {first_line(error)}') from None


def require_statistics(values: Any, name: str, scale: int = 1) -> tuple[float, ...]:
    """Require three finite numbers, above 0 if ``name`` ends with ``std``, on the 0–``scale`` scale."""
    lowest, kind = (0.0, 'numbers above 0') if name.endswith('std') else (-math.inf, 'numbers')
    expected = f'{name}={values!r}: expected three {kind}, of the 0-{scale} scale'
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise ValueError(expected) from None
    if len(numbers) != 3 or not all(lowest < number < math.inf for number in numbers):
        raise ValueError(expected)
    if scale == 1 and max(map(abs, numbers)) > OTHER_SCALE:
        raise ValueError(f'{expected}; divide them by 255')
    return numbers


def warn_of_other_statistics(
    weights: Path, model_name: str, taken: Statistics, configs: Mapping[str, Mapping[str, Any]]
) -> None:
    """Warn that a weight file's mean and std are a guess, if those of the model's weight tags differ."""
    tags: dict[Statistics, list[str]] = {}
    for tag, config in configs.items():
        tags.setdefault((tuple(config['mean']), tuple(config['std'])), []).append(tag)
    if len(tags) < 2:
        return
    others = [f'{", ".join(tags[key])}: mean {key[0]}, std {key[1]}' for key in tags if key != taken]
    message = (
        f'{weights} does not tell the mean and std of the images it was trained on, and not all weights of '
        f'{model_name} have the same: taken are mean {taken[0]}, std {taken[1]} ({"; ".join(others)}). If '
        'that is wrong, give model.target_generator.teacher_mean and teacher_std'
    )
    print_log(message, logger='current', level=logging.WARNING)


def fill_strictly(
    own: Weights, weights: Weights, path: Path, model_name: str, required: str | tuple[str, ...] = ()
) -> None:
    """Fill every entry of a network's state dict ``own``; weights that start with ``required`` need a place.

    ValueError names the first entry that is missing, has another shape, is not finite or has no place.
    """
    misfit = f'{path} does not fit {model_name}'
    for key, value in own.items():
        if key not in weights:
            raise ValueError(f'{misfit}: it has no {key}')
        if weights[key].shape != value.shape:
            shapes = f'shape {tuple(weights[key].shape)}, expected {tuple(value.shape)}'
            raise ValueError(f'{misfit}: {key} has {shapes}. Give the model_name that the file was made with')
    unexpected = next((key for key in weights if key.startswith(required) and key not in own), None)
    if unexpected is not None:
        raise ValueError(f'{misfit}, which has no {unexpected}')
    require_finite({key: weights[key] for key in own}, path)
    for key, value in own.items():  # a state dict shares its memory with the network
        value.copy_(weights[key])
