"""Files at an address, kept in a cache folder, each downloaded once however many processes ask for it."""

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch
from filelock import FileLock
from mmengine.logging import print_log

from ..datasets.prepare import ChecksumError, DownloadError, download_file, file_digests

OFFLINE = ('MVP_MM_OFFLINE', 'HF_HUB_OFFLINE')
TRUE = ('1', 'on', 'yes', 'true')  # as huggingface_hub reads its variable
# As torch.hub reads a name: the first digits of the sha256 before the ending.
HASH_IN_NAME = re.compile(r'-([0-9a-f]{8,64})\.[^.]+$')


def cache_dir() -> Path:
    """``mvp_mm`` in torch.hub's folder, which ``TORCH_HOME`` and ``XDG_CACHE_HOME`` move."""
    return Path(torch.hub.get_dir()).expanduser() / 'mvp_mm'


def offline() -> bool:
    """Whether ``MVP_MM_OFFLINE=1`` or ``HF_HUB_OFFLINE=1`` forbids the network."""
    return any(os.environ.get(name, '').lower() in TRUE for name in OFFLINE)


def cached_path(url: str, sha256: str | None = None) -> Path:
    """Where the file of an address lies, or would lie, in the cache.

    Args:
        url: http(s) address.
        sha256: Its checksum. Two files of one name have two places: by their checksums, or addresses.
    """
    name = unquote(urlsplit(url).path).rsplit('/', 1)[-1]
    name = re.sub(r'[^\w.+-]', '_', name).lstrip('.') or 'file'
    key = sha256 or hashlib.sha256(url.encode()).hexdigest()
    return cache_dir() / key[:16] / name


def fetch(urls: str | Sequence[str], sha256: str | None = None, progress: bool = True) -> Path:
    """A file on this machine that is the one at an address.

    Where it is not there yet it is downloaded: an unfinished download goes on where it stopped, if the server
    can do that; further addresses are tried where one fails; other processes wait for the one that downloads.
    A file with another checksum is deleted, be it downloaded or found in the cache. Without a checksum the
    first digits of one in the file's name are compared, as torch.hub does.

    Args:
        urls: http(s) address, or several of the same file.
        sha256: Its SHA-256, 64 hexadecimal digits. Default None: see above.
        progress: Show a progress bar. Default True.

    Returns:
        Path in :func:`cache_dir`. Nothing is written outside of it.

    Raises:
        ChecksumError: If no address gives a file of this checksum. What came has been deleted.
        FileNotFoundError: If the file is not in the cache and the network is switched off.
        DownloadError: If no address gives the file.
    """
    urls = [urls] if isinstance(urls, str) else list(urls)
    target = cached_path(urls[0], sha256)
    in_name = HASH_IN_NAME.search(target.name)
    wanted = sha256 or (in_name[1] if in_name else '')
    if target.is_file() and _matches(target, wanted):
        return target
    if offline():
        switched = ' and '.join(f'{name}={os.environ[name]}' for name in OFFLINE if os.environ.get(name))
        raise FileNotFoundError(
            f'{urls[0]} is not in the cache, and {switched} forbids the network. Copy the file to {target}, '
            'or give the path of a file'
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f'{target.name}.lock')):
        if target.is_file():
            if _matches(target, wanted):  # another process has brought it meanwhile
                return target
            target.unlink()
            print_log(
                f'{target} was damaged and is downloaded again', logger='current', level=logging.WARNING
            )
        return download_file(
            urls,
            target,
            sha256=sha256,
            check=lambda path: _check(path, wanted),
            progress=progress,
        )


def _matches(path: Path, wanted: str) -> bool:
    return not wanted or file_digests(path, 'sha256')['sha256'].startswith(wanted)


def _check(path: Path, wanted: str) -> None:
    if not _matches(path, wanted):
        found = file_digests(path, 'sha256')['sha256']
        raise ChecksumError(f'its sha256 is {found}, and its name says {wanted}')


def fetch_address(address: str) -> Path:
    """:func:`fetch` for those who have an address and expect a missing file as ``FileNotFoundError``.

    Raises:
        FileNotFoundError: If the file cannot be had.
        ChecksumError: If it is not what its name says.
    """
    try:
        return fetch(address)
    except DownloadError as error:
        raise FileNotFoundError(
            f'{error} Without a network, copy the file to this machine and give its path'
        ) from error
