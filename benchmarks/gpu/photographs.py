"""JPEG files of the size and weight of ImageNet's, made here because photographs cannot travel."""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (500, 375)  # width, height: ImageNet's commonest


def write_photographs(folder: Path, count: int, processes: int = 1) -> list[Path]:
    """Write smooth random images with some noise, about 100 KB each.

    Args:
        folder: Where; it is made.
        count: How many.
        processes: That write.

    Returns:
        Their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes, get_context('fork')) as pool:
        return list(pool.map(partial(_write, folder), range(count), chunksize=8))


def repeat(paths: list[Path], folder: Path, count: int) -> None:
    """Give files more names, until there are ``count``."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        os.link(paths[number % len(paths)], folder / f'{number:06d}.jpg')


def _write(folder: Path, number: int) -> Path:
    rng = np.random.default_rng(number)
    width, height = SIZE
    coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8))
    fine = Image.fromarray(rng.integers(64, 192, (height // 4, width // 4, 3), dtype=np.uint8))
    smooth, texture = (
        np.asarray(image.resize(SIZE, Image.Resampling.BICUBIC), np.float32) for image in (coarse, fine)
    )
    pixels = smooth + 0.35 * (texture - 128) + rng.normal(0, 13, (height, width, 1))
    path = folder / f'{number:06d}.jpg'
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path
