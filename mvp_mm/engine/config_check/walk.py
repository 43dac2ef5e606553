"""Walk through the dicts and lists of a config; each value with its dotted path."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def at(cfg: Config, path: str, default: Any = None) -> Any:
    """Return the value at a dotted path, or ``default`` if there is none."""
    found: Any = cfg
    for part in path.split('.'):
        found = found.get(part, default) if isinstance(found, Mapping | Config) else default
    return found


def entries(path: str, value: Any) -> list[tuple[str, Any]]:
    """Return what is one level below, by path."""
    if isinstance(value, Mapping):
        return [(f'{path}.{key}', entry) for key, entry in value.items()]
    if isinstance(value, list | tuple):
        return [(f'{path}.{index}', entry) for index, entry in enumerate(value)]
    return []


def dicts(path: str, value: Any) -> Iterator[tuple[str, Mapping]]:
    """Yield all dicts in a value, itself included."""
    if isinstance(value, Mapping):
        yield path, value
    for below, entry in entries(path, value):
        yield from dicts(below, entry)


def values(path: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield path, key and value of everything that the dicts in a value hold."""
    for below, found in dicts(path, value):
        for key, entry in found.items():
            yield f'{below}.{key}', key, entry


def datasets(cfg: Config) -> Iterator[tuple[str, Mapping]]:
    """Yield the datasets of all loaders, those of evaluators included."""
    for key in (*LOADERS, 'evaluators'):
        for path, found in dicts(key, cfg.get(key)):
            if isinstance(found.get('dataset'), Mapping):
                yield f'{path}.dataset', found['dataset']
