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
from torch import Tensor, nn

from ...weights.locate import weights_in
from ...weights.read import first_line, require_finite

RANDOM_TEACHER_SEED = 0
OTHER_SCALE = 10  # above any mean or std of the 0–1 scale, below those of the 0–255 scale
Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std


def unknown_model(library: str, name: str, known: Sequence[str], config: str) -> ValueError:
    """Return the error for a model name that a library does not know."""
    close = difflib.get_close_matches(name.split('.')[0], known, n=4, cutoff=0.5)
    hint = f'did you mean {", ".join(close)}?' if close else f'see {library}.list_models(),'
    return ValueError(
        f'{library} knows no model {name!r}; {hint} or give a folder with {config} or hf-hub:owner/name'
    )


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
        f'model.target_generator.pretrained=FILE{option}; for a test with random weights give '
        f'model.target_generator.pretrained=None. Tried the local cache, then {places}: {first_line(error)}.'
    )


@contextmanager
def same_random_weights() -> Iterator[None]:
    """Initialise networks alike each time: tests of a checkpoint meet the teacher it was trained with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_TEACHER_SEED)
        yield


def warn_of_random_weights(model_name: str, real: str) -> None:
    """Warn that a teacher is random; ``real`` is a ``pretrained`` that would load its weights."""
    print_log(
        f'The teacher {model_name} has RANDOM weights (pretrained=None). This is for tests and benchmarks: '
        'a student trained from it learns nothing of use. Give model.target_generator.pretrained '
        f'{real} or a weight file to pre-train for real.',
        logger='current',
        level=logging.WARNING,
    )


def local_weights(pretrained: str, names: Sequence[str], folder: Path | None = None) -> Path | None:
    """Find a weight file by its path or folder, relative to the model's ``folder`` too; None if missing.

    ``names`` are the usual names of such files, best first: see :func:`weights_in` for what it raises.
    """
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
    is_std = name.endswith('std')
    expected = f'expected three {"numbers above 0" if is_std else "numbers"}, of the 0-{scale} scale'
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise ValueError(f'{name}={values!r}: {expected}') from None
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)) or (is_std and min(numbers) <= 0):
        raise ValueError(f'{name}={values!r}: {expected}')
    if scale == 1 and max(map(abs, numbers)) > OTHER_SCALE:
        raise ValueError(f'{name}={values!r}: {expected}; divide them by 255')
    return numbers


def by_statistics(configs: Mapping[str, Mapping[str, Any]]) -> dict[Statistics, list[str]]:
    """Group weight tags by the ``mean`` and ``std`` in their configs."""
    tags: dict[Statistics, list[str]] = {}
    for tag, config in configs.items():
        tags.setdefault((tuple(config['mean']), tuple(config['std'])), []).append(tag)
    return tags


def warn_of_other_statistics(
    weights: Path, model_name: str, taken: Statistics, tags: dict[Statistics, list[str]]
) -> None:
    """Warn that a weight file's mean and std are a guess, if the model's weights have several."""
    if len(tags) < 2:
        return
    others = '; '.join(
        f'{", ".join(names)}: mean {mean}, std {std}'
        for (mean, std), names in tags.items()
        if (mean, std) != taken
    )
    print_log(
        f'{weights} does not tell the mean and std of the images it was trained on, and not all weights '
        f'of {model_name} have the same: taken are mean {taken[0]}, std {taken[1]} ({others}). If that is '
        'wrong, give model.target_generator.teacher_mean and teacher_std',
        logger='current',
        level=logging.WARNING,
    )


def require_fit(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path, model_name: str, prefix: str = ''
) -> None:
    """Require that a file fills every entry of a network's state dict ``own`` with finite numbers.

    Raises:
        ValueError: If an entry is missing, has another shape or is not finite; names the first one, with
            ``prefix``, which the names have in the file.
    """
    for key, value in own.items():
        if key not in weights:
            raise ValueError(f'{path} does not fit {model_name}: it has no {prefix}{key}')
        if weights[key].shape != value.shape:
            raise ValueError(
                f'{path} does not fit {model_name}: {prefix}{key} has shape {tuple(weights[key].shape)}, '
                f'expected {tuple(value.shape)}. Give the model_name that the file was made with'
            )
    require_finite({f'{prefix}{key}': weights[key] for key in own}, path)


def fill_strictly(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    path: Path,
    model_name: str,
    prefix: str = '',
    required: str = '',
) -> None:
    """Fill a whole network by :func:`require_fit`; entries that start with ``required`` need a place."""
    own = network.state_dict()
    require_fit(weights, own, path, model_name, prefix)
    unexpected = next((key for key in weights if key.startswith(required) and key not in own), None)
    if unexpected is not None:
        raise ValueError(f'{path} does not fit {model_name}, which has no {prefix}{unexpected}')
    network.load_state_dict({key: weights[key].float() for key in own})
