"""Bring the files that zoos name to this machine: each is downloaded once, and checked each time."""

import hashlib
import itertools
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock
from mmengine.logging import print_log

from ..datasets.prepare import ChecksumError, DownloadError, download_file, file_digests
from ..weights.locate import OFFLINE, cache_dir, hub_file, offline

# As torch.hub reads a name: the first digits of the sha256 before the ending.
HASH_IN_NAME = re.compile(r'-([0-9a-f]{8,64})\.[^.]+$')


def cached_path(url: str, sha256: str | None = None) -> Path:
    """Return the place in the cache of an http(s) address; of equal names the folders tell them apart."""
    name = unquote(urlsplit(url).path).rsplit('/', 1)[-1]
    name = re.sub(r'[^\w.+-]', '_', name).lstrip('.') or 'file'
    key = sha256 or hashlib.sha256(url.encode()).hexdigest()
    return cache_dir() / key[:16] / name


def fetch(places: str | Sequence[str], sha256: str | None = None, progress: bool = True) -> Path:
    """Return the path of a file on this machine, downloading it if necessary.

    Files of the hub lie in huggingface_hub's cache, those of http(s) addresses in :func:`cache_dir`; there
    an unfinished download is resumed, and processes wait for the one that downloads. A downloaded file with
    another checksum is deleted. ``places`` are a path, http(s) address or ``hf://owner/name/file@revision``,
    or several, tried in turn; without ``sha256`` the digits in a name count, as for torch.hub.

    Raises:
        ChecksumError: If the file has another checksum.
        FileNotFoundError: If there is no such file, or it is not in the cache and the network is off.
        DownloadError: If no address gives the file.
    """
    places = [places] if isinstance(places, str) else places
    # Neighbouring http(s) addresses continue one another's download.
    by_scheme = itertools.groupby(places, lambda place: place.startswith(('http://', 'https://')) or place)
    groups = [list(group) for _, group in by_scheme]
    for number, group in enumerate(groups, start=1):
        try:
            return _fetch_from(group, sha256, progress)
        except (FileNotFoundError, DownloadError):
            if number == len(groups):
                raise
    raise FileNotFoundError('no place to fetch a file from: give at least one')


def _fetch_from(places: Sequence[str], sha256: str | None, progress: bool) -> Path:
    place, *mirrors = places
    if '://' not in place:
        path = Path(place)
        if not path.is_file():
            raise FileNotFoundError(f'there is no file {path}, which an entry of a zoo names')
        _require(path, sha256)
        return path
    if place.startswith('hf://'):
        path = hub_file(place)
        try:
            _require(path, sha256)
        except ChecksumError as error:
            path.resolve().unlink()  # what the cache's link leads to
            path.unlink(missing_ok=True)
            raise ChecksumError(f'{error}. It was deleted: call again to download {place} again') from None
        return path
    target = cached_path(place, sha256)
    in_name = HASH_IN_NAME.search(target.name)
    wanted = sha256 or (in_name[1] if in_name else '')
    if target.is_file() and _matches(target, wanted):
        return target
    if offline():
        variables = ' and '.join(f'{name}={os.environ[name]}' for name in OFFLINE if os.environ.get(name))
        advice = f'Copy the file to {target}, or give the path of a file'
        raise FileNotFoundError(f'{place} is not in the cache, and {variables} forbids the network. {advice}')

    def check(path: Path) -> None:
        if not _matches(path, wanted):
            raise ChecksumError(f'its sha256 is {_sha256(path)}, and its name says {wanted}')

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f'{target.name}.lock')):
        if target.is_file():
            if _matches(target, wanted):  # another process has downloaded it meanwhile
                return target
            target.unlink()
            print_log(f'{target} was damaged; downloading it again', 'current', logging.WARNING)
        return download_file([place, *mirrors], target, sha256, check if wanted else None, progress)


def fetch_address(address: str) -> Path:
    """:func:`fetch` an address, raising ``FileNotFoundError`` if no server gives the file."""
    try:
        return fetch(address)
    except DownloadError as error:
        advice = 'Without a network, copy the file to this machine and give its path'
        raise FileNotFoundError(f'{error} {advice}') from error


def _sha256(path: Path) -> str:
    return file_digests(path, 'sha256')['sha256']


def _matches(path: Path, wanted: str) -> bool:
    return not wanted or _sha256(path).startswith(wanted)


def _require(path: Path, sha256: str | None) -> None:
    if sha256 is not None and (found := _sha256(path)) != sha256:
        raise ChecksumError(f'{path} is damaged: its sha256 is {found}, expected {sha256}')
