"""Which images a tool draws, where the pictures go, and on what device: checked before a model is built."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.logging import print_log
from PIL import Image

from ..datasets.sources.image_files import find_images
from ..datasets.transforms.decode_image import UNREADABLE


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Files from a list of files and folders.

    Args:
        paths: Image files, and folders whose images are taken as :func:`.find_images` finds them.

    Returns:
        The files, each once. Each begins like an image that Pillow opens.

    Raises:
        FileNotFoundError: If there is no such file or folder, or no image in a folder.
        ValueError: If a file that was named is no image.
    """
    files: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = _images_in(path)
        elif path.is_file():
            fault = _fault(path)
            if fault:
                raise ValueError(f'{path} is no image ({fault})')
            inside = [path]
        else:
            raise FileNotFoundError(f'there is no image {path}')
        for file in inside:
            files.setdefault(file.resolve(), file)
    return list(files.values())


def _images_in(folder: Path) -> list[Path]:
    found = find_images(folder)
    files = [folder / name for name in found.paths]
    images = [file for file in files if not _fault(file)]
    note = f'; {len(files) - len(images)} files are no images in spite of their names' * (images != files)
    if not images:
        raise FileNotFoundError(f'{folder} has no image in it{found.note}{note}')
    if found.note or note:
        print_log(f'{len(images)} images in {folder}{found.note}{note}', 'current')
    return images


def _fault(path: Path) -> str | None:
    """Why Pillow does not open a file; its pixels are not decoded."""
    try:
        with Image.open(path):
            return None
    except UNREADABLE as error:
        return f'{type(error).__name__}: {error}'


def picture_files(images: Sequence[Path], out: Path) -> list[Path]:
    """A file for the picture of each image, no two the same.

    Args:
        images: From :func:`image_files`.
        out: The folder for the pictures.

    Returns:
        ``out/<name>.png``, or, where two images would share one, for all of them
        ``out/<folders below their common one>/<name with its ending>.png``.

    Raises:
        NotADirectoryError: If ``out`` is a file.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f'{out} is a file: expected a folder for the pictures')
    if len({image.stem.lower() for image in images}) == len(images):
        return [out / f'{image.stem}.png' for image in images]
    common = Path(os.path.commonpath([image.resolve().parent for image in images]))
    relative = [image.resolve().relative_to(common) for image in images]
    return [out / path.parent / f'{path.name}.png' for path in relative]


def usable_device(name: str) -> str:
    """A device's name, if it can be used here.

    Args:
        name: Such as ``'cpu'``, ``'cuda'`` or ``'cuda:1'``.

    Raises:
        ValueError: If there is no such device.
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f'there is no device {name} here ({reason}): leave the option out') from error
    return name
