"""Custom zoos: a folder, or an address, with a metafile and the files it names."""

import functools
import json
import logging
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ..datasets.prepare import DownloadError, download_file
from ..engine.config_check.walk import dicts
from ..weights.locate import hub_file, offline
from ..whole_file import whole_file
from .downloads import cached_path, fetch
from .entries import Entry, entry_of, rows_of, shipped_entries

ENVIRONMENT = 'MVP_MM_ZOO'
INDEX = 'metafile.yml'
# Only these keys of a custom zoo's config are used.
USED = ('default_scope', 'model', 'test_dataloader')
_added: list[str] = []
_indices: dict[str, Path] = {}  # by address; each is asked for once a process


def add_zoo(place: str | Path) -> list[str]:
    """Add the models of a custom zoo to this process; ``MVP_MM_ZOO=PLACE,PLACE`` adds them to every one.

    Args:
        place: A folder with a ``metafile.yml``, as ``tools/publish.py --zoo`` writes it, the http(s) address
            of one, ``hf://owner/name``, or the path or address of the metafile itself.

    Returns:
        The names of its models. They take precedence over the package's own.

    Raises:
        FileNotFoundError: If there is no such index.
        ValueError: If it is not a metafile.
    """
    _indices.pop(_index_of(str(place)), None)
    names = [entry.name for entry in entries_at(str(place))]
    if str(place) not in _added:
        _added.append(str(place))
    return names


def zoo_places() -> list[str]:
    """List the custom zoos, those of the environment last."""
    of_environment = (place.strip() for place in os.environ.get(ENVIRONMENT, '').split(','))
    return list(dict.fromkeys([*_added, *filter(None, of_environment)]))


def all_entries() -> dict[str, Entry]:
    """Return the entries of all zoos by name; of equal names the first zoo's counts, the package is last.

    Warns of a custom zoo that cannot be read, and leaves it out.
    """
    found = dict(shipped_entries())
    for place in reversed(zoo_places()):
        try:
            found |= {entry.name: entry for entry in reversed(entries_at(place))}
        except (FileNotFoundError, ValueError) as error:
            print_log(f'Left out the zoo {place}: {error}', logger='current', level=logging.WARNING)
    return dict(sorted(found.items()))


def entries_at(place: str) -> list[Entry]:
    """Read the entries of one custom zoo; without its server, those last seen. Errors as :func:`add_zoo`."""
    index = _index_of(place)
    base: str | Path
    if '://' in place:
        base = index[: index.rindex('/') + 1]
        if index not in _indices:
            _indices[index] = _index_at(index)
        path = _indices[index]
    else:
        path = Path(index).expanduser()
        base = path.parent.absolute()
        if not path.is_file():
            raise FileNotFoundError(f'there is no {path}: expected a folder with {INDEX}, or an index file')
    return [entry_of(row, base, place) for row in rows_of(path.read_text(encoding='utf-8'), index)]


def _index_of(place: str) -> str:
    return place if place.endswith(('.yml', '.yaml', '.json')) else f'{place.rstrip("/")}/{INDEX}'


def _index_at(url: str) -> Path:
    if url.startswith('hf://'):
        return hub_file(url)
    if not url.startswith(('http://', 'https://')):
        raise FileNotFoundError(f'{url} cannot be read: give a folder, or an http(s) address')
    kept = cached_path(url)
    if offline():
        if not kept.is_file():
            raise FileNotFoundError(f'{url} is not in the cache, and the network is switched off')
        return kept
    try:
        with whole_file(kept, 'free some space, and call again') as fresh:
            download_file(url, fresh, progress=False)
            rows_of(fresh.read_text(encoding='utf-8'), url)  # a server's page of excuses is none
    except (DownloadError, ValueError) as error:
        if not kept.is_file():
            if isinstance(error, ValueError):
                raise
            raise FileNotFoundError(f'its index could not be had: {error}') from error
        print_log(f'{url} could not be had; using its last known state', 'current', logging.WARNING)
    return kept


def config_of(entry: Entry) -> Config:
    """Read the config of a custom zoo's entry: plain data that can name only this package's parts.

    ValueError if it is a program, cannot be read, or names a class that no config of this package names.
    """
    if not entry.config.partition('@')[0].endswith('.json'):
        reason = 'a custom zoo may have .json only, which cannot run anything; tools/publish.py writes it'
        raise ValueError(f'{entry.name} of {entry.zoo} has the config {entry.config}: {reason}')
    path = fetch(entry.config, entry.config_sha256)
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{entry.config} cannot be read: {error}') from error
    if not isinstance(content, dict) or not isinstance(content.get('model'), dict):
        raise ValueError(f'{entry.config} is no config: it has no `model`')
    content = {key: content[key] for key in USED if content.get(key) is not None}
    # MMEngine builds whatever a `type` names, also an import path of any installed package.
    if unknown := sorted(_types(content) - _known_types()):
        wants = f'{entry.name} of {entry.zoo} wants {unknown[0]!r} built, which no config of this package has'
        raise ValueError(f'{wants}. If you trust it, download its config and build it yourself')
    return Config(content)


@functools.cache
def _known_types() -> set[str]:
    """Collect the types of the models and the test data of the package's own configs."""
    # Without their imports: not everyone has mmdet.
    paths = [entry.config for entry in shipped_entries().values()]
    configs = [Config.fromfile(path, import_custom_modules=False) for path in paths]
    return {kind for cfg in configs for key in USED for kind in _types(cfg.get(key))}


def _types(value: Any) -> set[str]:
    return {str(found['type']) for _, found in dicts('', value) if 'type' in found}
