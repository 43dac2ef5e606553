"""Find a weight file: a path, a folder, an http(s) address, a file of the Hugging Face hub, or a name."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlparse

import torch

from .read import first_line

# transformers' names of the weight file in a folder that it saves.
FOLDER_FILES = ('model.safetensors', 'pytorch_model.bin')
SUFFIXES = ('.safetensors', '.bin', '.pt', '.pth')  # of weight files
OFFLINE = ('MVP_MM_OFFLINE', 'HF_HUB_OFFLINE')


def offline() -> bool:
    """Return whether ``MVP_MM_OFFLINE=1`` or ``HF_HUB_OFFLINE=1`` forbids the network."""
    # Values as huggingface_hub reads its variable.
    return any(os.environ.get(name, '').lower() in ('1', 'on', 'yes', 'true') for name in OFFLINE)


def cache_dir() -> Path:
    """Return ``mvp_mm`` in torch.hub's folder, which ``TORCH_HOME`` and ``XDG_CACHE_HOME`` move."""
    return Path(torch.hub.get_dir()).expanduser() / 'mvp_mm'


def hub_file(address: str) -> Path:
    """Bring ``hf://owner/name/file[@revision]`` to huggingface_hub's cache."""
    from huggingface_hub import hf_hub_download

    path, _, revision = address.removeprefix('hf://').partition('@')
    owner, name, file = (*path.split('/', 2), '', '')[:3]
    if not file:
        raise FileNotFoundError(f'{address} names no file: expected hf://owner/name/file or ...@revision')
    repository, local_only = f'{owner}/{name}', offline()
    try:
        return Path(hf_hub_download(repository, file, revision=revision or None, local_files_only=local_only))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f'{address} could not be downloaded ({first_line(error)}). Without a network, copy the file to '
            'this machine and give its path'
        ) from error


# From an address to its file here, by scheme; `import mvp_mm` adds the zoo's for http(s).
DOWNLOADERS: dict[str, Callable[[str], Path]] = {'hf': hub_file}
# From a model's name to its published weights, or None, or FileNotFoundError with near names; `import mvp_mm`
# adds the zoo's.
PUBLISHED: list[Callable[[str], Path | None]] = []
# From a file's sha256 to published weights that are that file, likewise.
BY_SHA256: list[Callable[[str], Path | None]] = []


def is_address(checkpoint: str) -> bool:
    """Return whether a checkpoint is an address; FileNotFoundError for one from which nothing can be read."""
    if urlparse(checkpoint).scheme in DOWNLOADERS:
        return True
    if '://' in checkpoint:
        raise FileNotFoundError(f'{checkpoint} cannot be read: give a file, or an http(s) or hf:// address')
    return False


def local_path(checkpoint: str | Path) -> Path:
    """Return where weights lie, and download them first if they lie elsewhere.

    Args:
        checkpoint: A file, a folder of transformers, an http(s) or ``hf://`` address, or the name of a model
            with published weights, such as ``mvp_vittiny_photographs``. A file counts before a name.

    Raises:
        FileNotFoundError: If there is none of these.
    """
    address = str(checkpoint)
    if is_address(address):
        return DOWNLOADERS[urlparse(address).scheme](address)
    path = Path(checkpoint).expanduser()
    for file in [path / name for name in FOLDER_FILES] if path.is_dir() else [path]:
        if file.is_file():
            return file
    if path.is_dir():
        expected = ' or '.join(FOLDER_FILES)
        inside = [file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file()]
        last = named_last(path)
        if last is None or not last.is_file():
            last = max(inside, key=lambda file: file.stat().st_mtime, default=None)
        such = f', such as {last}' if last else ''
        raise FileNotFoundError(f'{checkpoint} is a folder without {expected}: give the weight file{such}')
    is_name = path.name == address and path.suffix not in SUFFIXES  # else a file's: spare the zoos' indices
    for found in filter(None, (find(address) for find in PUBLISHED if is_name)):
        return found
    raise FileNotFoundError(f'there is no checkpoint {checkpoint}')


def named_last(folder: Path) -> Path | None:
    """Return the checkpoint that MMEngine's ``last_checkpoint`` in a folder names, even if it is gone."""
    pointer = folder / 'last_checkpoint'
    text = pointer.read_text(errors='replace').strip() if pointer.is_file() else ''
    last, here = Path(text), folder / Path(text).name
    # the folder was moved, or named relative to another one
    return (here if here.is_file() and not last.is_file() else last) if text else None


def published_file(sha256: str | None) -> Path | None:
    """Return published weights of this digest, downloaded if they lie elsewhere; None if there are none."""
    return next(filter(None, (find(sha256) for find in BY_SHA256 if sha256)), None)


def weights_in(folder: Path, names: Sequence[str]) -> Path:
    """Return the first file of these names in a folder, else its only weight file."""
    found = [folder / name for name in names if (folder / name).is_file()][:1]
    found = found or sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if not found:
        raise FileNotFoundError(f'there are no weights in {folder}: expected {" or ".join(names)}')
    if len(found) > 1:
        raise ValueError(
            f'{folder} holds several weight files ({", ".join(path.name for path in found)}): give one as '
            'model.target_generator.pretrained'
        )
    return found[0]
