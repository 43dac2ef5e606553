"""Which images a tool draws, where the pictures go, and on what device: checked before a model is built."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.logging import print_log
from PIL import Image

from ..datasets.sources.image_files import find_images
from ..datasets.transforms.decode_image import UNREADABLE
from ..wording import counted


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Collect image files, and those of folders as :func:`.find_images` finds them, each once.

    Raises:
        FileNotFoundError: If there is no such file or folder, or no image in a folder.
        ValueError: If a file that was named is no image.
    """
    files: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir() and not path.is_file():
            raise FileNotFoundError(f'there is no image {path}')
        if path.is_file() and (fault := _fault(path)):
            raise ValueError(f'{path} is no image ({fault})')
        for file in _images_in(path) if path.is_dir() else [path]:
            files.setdefault(file.resolve(), file)
    return list(files.values())


def _images_in(folder: Path) -> list[Path]:
    found = find_images(folder)
    files = [folder / name for name in found.paths]
    images = [file for file in files if not _fault(file)]
    note = found.note
    if images != files:
        note += f'; {len(files) - len(images)} files are no images in spite of their names'
    if not images:
        raise FileNotFoundError(f'{folder} has no image in it{note}')
    if note:
        print_log(f'{counted(len(images), "image")} in {folder}{note}', 'current')
    return images


def _fault(path: Path) -> str | None:
    """Say why Pillow does not open a file; its pixels are not decoded."""
    try:
        with Image.open(path):
            return None
    except UNREADABLE as error:
        return f'{type(error).__name__}: {error}'


def picture_files(images: Sequence[Path], out: Path) -> list[Path]:
    """Name a picture for each image of :func:`image_files` in the folder ``out``, no two the same.

    They are ``out/<name>.png``, or, where two images would share one, all
    ``out/<folders below their common one>/<name with its ending>.png``.

    Raises:
        NotADirectoryError: If ``out`` is a file.
        ValueError: If a picture would replace one of the images.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f'{out} is a file: expected a folder for the pictures')
    if len({image.stem.lower() for image in images}) == len(images):
        pictures = [out / f'{image.stem}.png' for image in images]
    else:
        common = Path(os.path.commonpath([image.resolve().parent for image in images]))
        relative = [image.resolve().relative_to(common) for image in images]
        pictures = [out / path.parent / f'{path.name}.png' for path in relative]
    replaced = {image.resolve() for image in images} & {picture.resolve() for picture in pictures}
    if replaced:
        raise ValueError(f'a picture would replace the image {min(replaced)}: choose another folder (--out)')
    return pictures


def usable_device(name: str) -> str:
    """Return a device's name, such as ``'cuda:1'``; raise ValueError if it cannot be used here."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f'there is no device {name} here ({reason}): leave the option out') from error
    return name
