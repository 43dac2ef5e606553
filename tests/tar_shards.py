"""Tar shards that tests write."""

import io
import tarfile

import numpy as np
from PIL import Image


def image(number, kind='JPEG', size=(40, 32)):
    """A small image of one colour, which its number decides."""
    file = io.BytesIO()
    colour = (number * 37 % 256, number * 91 % 256, number * 11 % 256)
    Image.fromarray(np.full((*size, 3), colour, np.uint8)).save(file, kind)
    return file.getvalue()


def write_tar(path, members):
    """Members: pairs of a name and its bytes, or a TarInfo and None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, 'w') as tar:
        for name, content in members:
            if content is None:
                tar.addfile(name)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def samples(numbers, text=lambda number: f'number {number}'):
    """The members of samples with text and class."""
    for number in numbers:
        yield f'{number:06d}.jpg', image(number)
        yield f'{number:06d}.txt', text(number).encode()
        yield f'{number:06d}.cls', str(number % 5).encode()


def write_shards(folder, sizes, prefix='train'):
    """Shards of so many samples each, numbered through."""
    first, paths = 0, []
    for shard, size in enumerate(sizes):
        paths.append(write_tar(folder / f'{prefix}-{shard:04d}.tar', samples(range(first, first + size))))
        first += size
    return paths
