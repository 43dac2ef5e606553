"""Download a file by huggingface_hub's client: resumed, checked, and under its name only when whole."""

import errno
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from huggingface_hub.file_download import http_get
from tqdm import tqdm


class DownloadError(OSError):
    """No address gave the file."""


class ChecksumError(ValueError):
    """A file is not the one that was asked for."""


def download_file(
    urls: str | Sequence[str],
    target: Path,
    sha256: str | None = None,
    check: Callable[[Path], None] | None = None,
    progress: bool = True,
) -> Path:
    """Download a file that is not there yet from the first of several addresses that works, resuming it.

    ``check`` is called with the whole file before it gets its name, and raises ValueError to refuse it.

    Raises:
        ChecksumError: If no address gave the expected file, or the target exists with another checksum.
        DownloadError: If no address gave the file. With ``sha256`` or ``check``, ``FILE.part`` is kept.
        OSError: If the disk is full; the unfinished file is deleted.
        ValueError: If an address is not http(s), or the checksum is malformed.
    """
    urls = [urls] if isinstance(urls, str) else list(dict.fromkeys(urls))
    if not urls:
        raise ValueError(f'no address to download {target} from: give at least one')
    for url in urls:
        if not re.match(r'https?://[^/]', url):
            raise ValueError(f'{url!r} is no address to download from: expected http://... or https://...')
    if sha256 and not re.fullmatch('[0-9a-f]{64}', sha256.strip().lower()):
        raise ValueError(f'{sha256!r} is no sha256: expected 64 hexadecimal digits')
    if target.exists():
        require_sha256(target, sha256, 'It was there already: delete it to download it again')
        return target

    def verify(path: Path) -> None:
        require_sha256(path, sha256)
        if check is not None:
            check(path)

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f'{target.name}.part')
    checked = bool(sha256 or check)  # else two versions of the file could be mixed
    if not checked:
        part.unlink(missing_ok=True)
    reasons: dict[str, Exception] = {}
    for url in urls:
        try:
            _fetch(url, part, verify, progress)
        except Exception as error:  # httpx2's, httpx's or requests', by the version of huggingface_hub
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                part.unlink(missing_ok=True)
                reason = f'the disk is full while downloading {target}. Free some space and call again'
                raise OSError(error.errno, reason) from error
            reasons[url] = error
        else:
            return part.replace(target)
    listed = '\n'.join(f'  {url}: {reason or type(reason).__name__}' for url, reason in reasons.items())
    if any(isinstance(reason, ValueError) for reason in reasons.values()):
        raise ChecksumError(
            f'{target.name} could not be downloaded as expected; what came was deleted:\n{listed}\n'
            'Compare the checksum with its source, or give another address'
        )
    if not checked:
        part.unlink(missing_ok=True)
    kept = _size(part)
    note = f' {kept:,} bytes are kept in {part}; the next call resumes there' if kept else ''
    raise DownloadError(
        f'{target.name} could not be downloaded:\n{listed}\nCheck the network and the proxy settings '
        f'(http_proxy, https_proxy), give another address, or download it by other means.{note}'
    )


def file_digests(path: Path, *names: str) -> dict[str, str]:
    """Return hexadecimal checksums of a file by the names of their algorithms, reading it once."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    with path.open('rb') as file:
        while chunk := file.read(1 << 20):
            for digest in digests.values():
                digest.update(chunk)
    return {name: digest.hexdigest() for name, digest in digests.items()}


def require_sha256(path: Path, sha256: str | None, advice: str = '') -> None:
    """Raise ChecksumError if a file has another SHA-256 than expected; None is not checked."""
    if sha256 and (found := file_digests(path, 'sha256')['sha256']) != sha256.strip().lower():
        raise ChecksumError(f'the sha256 of {path} is {found}, expected {sha256}. {advice}'.rstrip())


def _fetch(url: str, part: Path, verify: Callable[[Path], None], progress: bool) -> None:
    """Fill the part file from one address and verify it; if an older part does not fit, start again."""
    resumed = _size(part)
    bar = None if progress else tqdm(disable=True)  # None: the client's own
    try:
        with part.open('ab') as file:
            http_get(url, file, resume_size=resumed, displayed_filename=part.stem, _tqdm_bar=bar)
        verify(part)
    except Exception as error:
        status = getattr(getattr(error, 'response', None), 'status_code', None)
        # huggingface_hub before 1.7 finds only by the size that a server has sent the whole file again.
        unfit = isinstance(error, ValueError) or status == 416 or 'Consistency check' in str(error)
        if unfit or not _size(part):
            part.unlink(missing_ok=True)
        if not resumed or part.exists():
            raise
        _fetch(url, part, verify, progress)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
