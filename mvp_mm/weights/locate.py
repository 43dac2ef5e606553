"""Find a weight file: a path, a folder, an http(s) address or a file of the Hugging Face hub."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlparse

WEIGHT_SUFFIXES = ('.safetensors', '.bin', '.pt', '.pth')
# transformers' names of the weight file in a folder that it saves.
FOLDER_FILES = ('model.safetensors', 'pytorch_model.bin')
OFFLINE = ('MVP_MM_OFFLINE', 'HF_HUB_OFFLINE')


def offline() -> bool:
    """Return whether ``MVP_MM_OFFLINE=1`` or ``HF_HUB_OFFLINE=1`` forbids the network."""
    true = ('1', 'on', 'yes', 'true')  # as huggingface_hub reads its variable
    return any(os.environ.get(name, '').lower() in true for name in OFFLINE)


def local_path(checkpoint: str | Path) -> Path:
    """Return where a weight file lies on this machine; download it first if it is an address.

    Args:
        checkpoint: Path of a file or of a folder that transformers saved, http(s) address, or
            ``hf://owner/name/file`` with an optional ``@revision``.

    Raises:
        FileNotFoundError: If there is no such file, or it cannot be downloaded.
    """
    address = str(checkpoint)
    scheme = urlparse(address).scheme
    if scheme in ('http', 'https'):
        assert _download is not None, '`import mvp_mm` sets it'
        return _download(address)
    if scheme == 'hf':
        return hub_file(address)
    if '://' in address:
        raise FileNotFoundError(f'{address} cannot be read: give a file, or an http(s) address')
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        found = next((path / name for name in FOLDER_FILES if (path / name).is_file()), None)
        if found is None:
            raise FileNotFoundError(
                f'{checkpoint} is a folder without {" or ".join(FOLDER_FILES)}: give the weight file'
            )
        return found
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {checkpoint}')
    return path


def hub_file(address: str) -> Path:
    """Bring ``hf://owner/name/file[@revision]`` to huggingface_hub's cache.

    Raises:
        FileNotFoundError: If the address has another form, or the file cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download

    path, _, revision = address.removeprefix('hf://').partition('@')
    owner, name, file = (*path.split('/', 2), '', '')[:3]
    if not file:
        raise FileNotFoundError(f'{address} names no file: expected hf://owner/name/file or ...@revision')
    repository, local_only = f'{owner}/{name}', offline()
    try:
        return Path(hf_hub_download(repository, file, revision=revision or None, local_files_only=local_only))
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition('\n')[0]
        raise FileNotFoundError(
            f'{address} could not be downloaded ({reason}). Without a network, copy the file to this machine '
            'and give its path'
        ) from error


def weights_in(folder: Path, names: Sequence[str]) -> Path:
    """Return the first file of these names in a folder, else its only weight file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there are several.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    found = sorted(path for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES)
    if not found:
        raise FileNotFoundError(f'there are no weights in {folder}: expected {" or ".join(names)}')
    if len(found) > 1:
        raise ValueError(
            f'{folder} holds several weight files ({", ".join(path.name for path in found)}): give one as '
            'model.target_generator.pretrained'
        )
    return found[0]


_download: Callable[[str], Path] | None = None


def set_downloader(download: Callable[[str], Path]) -> None:
    """Set the function that downloads http(s) addresses; ``import mvp_mm`` sets the zoo's.

    Args:
        download: Takes an address, returns the file's path, and raises ``FileNotFoundError`` if it fails.
    """
    global _download
    _download = download
