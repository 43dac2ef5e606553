"""Further zoos: a folder, or an HTTP index, with a metafile and what it names."""

import functools
import json
import logging
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmengine.config import Config
from mmengine.logging import print_log

from ..datasets.prepare import DownloadError, download_file, file_digests
from .downloads import cached_path, fetch, offline
from .entries import Entry, entry_of, rows_of, shipped_entries

ENVIRONMENT = 'MVP_MM_ZOO'
INDEX = 'metafile.yml'
# Of a config of a further zoo; of no other key is anything built.
USED = ('default_scope', 'model', 'test_dataloader')
_added: list[str] = []
_indices: dict[str, Path] = {}  # of the addresses that this process has asked


def add_zoo(place: str | Path) -> list[str]:
    """Add the models of a lab's own zoo to this process; ``MVP_MM_ZOO=PLACE,PLACE`` adds them to every one.

    Args:
        place: A folder with a ``metafile.yml``, as ``tools/publish.py --zoo`` writes it, or the http(s)
            address of one; the path or address of the metafile itself does as well.

    Returns:
        The names of its models. They go before the package's own of the same name.

    Raises:
        FileNotFoundError: If there is no such index.
        ValueError: If it is no metafile.
    """
    _indices.pop(_index_of(str(place)), None)
    names = [entry.name for entry in entries_at(str(place))]
    if str(place) not in _added:
        _added.append(str(place))
    return names


def zoo_places() -> list[str]:
    """The further zoos, those of the environment last."""
    of_environment = (place.strip() for place in os.environ.get(ENVIRONMENT, '').split(','))
    return list(dict.fromkeys([*_added, *filter(None, of_environment)]))


def all_entries() -> dict[str, Entry]:
    """The entries of all zoos by name; the first that has a name keeps it, the package is the last.

    A further zoo that cannot be had is warned of and left out.
    """
    found: dict[str, Entry] = {}
    for place in zoo_places():
        try:
            entries = entries_at(place)
        except FileNotFoundError as error:
            print_log(f'Left out the zoo {place}: {error}', logger='current', level=logging.WARNING)
            continue
        for entry in entries:
            found.setdefault(entry.name, entry)
    for name, entry in shipped_entries().items():
        found.setdefault(name, entry)
    return dict(sorted(found.items()))


def entries_at(place: str) -> list[Entry]:
    """The entries of one further zoo.

    An index at an address is asked for once a process, and kept for when the network is away.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no metafile.
    """
    index = _index_of(place)
    if '://' in place:
        base: str | Path = index[: index.rindex('/') + 1]
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
    if urlsplit(url).scheme not in ('http', 'https'):
        raise FileNotFoundError(f'{url} cannot be read: give a folder, or an http(s) address')
    kept = cached_path(url)
    if offline():
        if kept.is_file():
            return kept
        raise FileNotFoundError(f'{url} is not in the cache, and the network is switched off')
    kept.parent.mkdir(parents=True, exist_ok=True)
    fresh = kept.with_name(f'{kept.name}.{os.getpid()}')
    try:
        download_file(url, fresh, progress=False)
        os.replace(fresh, kept)
    except DownloadError as error:
        if not kept.is_file():
            raise FileNotFoundError(f'its index could not be had: {error}') from error
        print_log(
            f'{url} could not be had; its last known state is used', logger='current', level=logging.WARNING
        )
    return kept


def local_file(place: str, sha256: str | None = None, mirrors: tuple[str, ...] = ()) -> Path:
    """A file of a zoo on this machine, checked against its sha256 where that is known.

    Raises:
        FileNotFoundError: If it cannot be had.
        ValueError: If it has another checksum.
    """
    if '://' in place:
        return fetch([place, *mirrors], sha256)
    path = Path(place)
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {path}, which an entry of a zoo names')
    if sha256 is not None and (found := file_digests(path, 'sha256')['sha256']) != sha256:
        raise ValueError(f'{path} is damaged: its sha256 is {found}, expected {sha256}')
    return path


def config_of(entry: Entry) -> Config:
    """The config of an entry of a further zoo: plain data, which can name no code but this package's parts.

    It has what a model is built and used by, and nothing else that the file may say.

    Raises:
        ValueError: If it is a program, cannot be read, or names a class that no config of this package names.
    """
    if entry.config.rsplit('/', 1)[-1].endswith('.json'):
        path = local_file(entry.config, entry.config_sha256)
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
        except ValueError as error:
            raise ValueError(f'{entry.config} cannot be read: {error}') from error
        if not isinstance(content, dict) or not isinstance(content.get('model'), dict):
            raise ValueError(f'{entry.config} is no config: it has no `model`')
        content = {key: content[key] for key in USED if content.get(key) is not None}
        _require_known_types(content, entry)
        return Config(content)
    raise ValueError(
        f'{entry.name} of {entry.zoo} has the config {entry.config}: a further zoo may have .json only, '
        'which cannot run anything; tools/publish.py writes it'
    )


def _require_known_types(content: dict[str, Any], entry: Entry) -> None:
    """MMEngine builds whatever a ``type`` names, an import path of any installed program among it."""
    known = _known_types()
    for kind in sorted(_types(content)):
        if kind not in known:
            raise ValueError(
                f'{entry.name} of {entry.zoo} wants {kind!r} built, which no config of this package has: it '
                'is refused. If you trust it, download its config and build it yourself'
            )


@functools.cache
def _known_types() -> set[str]:
    """What the models and the test data of the package's own configs are made of."""
    configs = [Config.fromfile(entry.config) for entry in shipped_entries().values()]
    return {kind for cfg in configs for key in USED for kind in _types(cfg.get(key))}


def _types(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {str(value['type'])} if 'type' in value else set()
        return own.union(*map(_types, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_types, value))
    return set()
