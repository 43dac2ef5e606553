"""What a collection of photographs is like: sizes, copies, what cannot be read."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..sources.open_images import open_images
from .find_unreadable import map_in_workers, read_checked

MOST = 50  # images that share a part of their look, to compare with


class Photograph(NamedTuple):
    """What is kept of an image that was looked at."""

    path: str
    fault: str | None  # why it cannot be read; then the rest is empty
    oddities: tuple[str, ...] = ()
    content: bytes = b''  # hash of the file
    look: int = 0  # see _look; 0 for a plain one
    height: int = 0  # upright, in pixels
    width: int = 0


@dataclass(frozen=True)
class Survey:
    """The photographs that were looked at, among all."""

    kind: str  # dataset class that reads them
    options: dict[str, Any]  # its arguments, which name the place
    count: int  # all images
    looked_at: list[Photograph]  # those that were read: all, or a sample

    @property
    def readable(self) -> list[Photograph]:
        """Those that can be read."""
        return [photograph for photograph in self.looked_at if photograph.fault is None]

    def sides(self) -> np.ndarray:
        """Short and long sides, ``(N, 2)`` pixels."""
        return np.sort([(photograph.height, photograph.width) for photograph in self.readable], axis=1)

    def smaller_than(self, side: int) -> float:
        """Share whose short side has fewer pixels than a crop."""
        return float((self.sides()[:, 0] < side).mean())

    def oddities(self) -> Counter[str]:
        """How many are odd, by what is odd."""
        return Counter(name for photograph in self.readable for name in photograph.oddities)

    def copies(self) -> list[tuple[str, str]]:
        """Pairs of paths, an image and the first with the same bytes."""
        first: dict[bytes, str] = {}
        pairs = [(image.path, first.setdefault(image.content, image.path)) for image in self.readable]
        return [(path, before) for path, before in pairs if path != before]

    def alike(self) -> list[tuple[str, str]]:
        """Pairs of paths, an image and one of other bytes whose look differs in 3 bits or fewer."""
        # Such hashes share one of four parts of 16 bits, by which they are found.
        pairs, seen = [], defaultdict[tuple[int, int], list[Photograph]](list)
        for image in {image.content: image for image in self.readable if image.look}.values():
            parts = [seen[part, image.look >> 16 * part & 0xFFFF] for part in range(4)]
            near = (other for part in parts for other in part[-MOST:])
            match = next((other for other in near if (other.look ^ image.look).bit_count() <= 3), None)
            if match is not None:
                pairs.append((image.path, match.path))
            for part in parts:
                part.append(image)
        return pairs


def survey(
    place: str, sample: int = 10_000, workers: int | None = None, progress: bool = False, seed: int = 0
) -> Survey:
    """Read images as training would, and keep what tells of them.

    Args:
        place: Folder, list of images, or shards (folder, ``.tar`` or pattern), as the datasets read them.
        sample: How many to read at most, drawn without replacement. Default 10,000.
        workers: Processes. Default None: one a core.
        progress: Show a bar. Default False.
        seed: Of the sample. Default 0.

    Raises:
        FileNotFoundError: If there is no such place, or no image in it.
        ValueError: If no place is named, or a list cannot be read.
    """
    dataset, options = open_images(place)
    number = min(sample, len(dataset))
    chosen = np.sort(np.random.default_rng(seed).choice(len(dataset), number, replace=False))
    photographs = map_in_workers(partial(_look_at, dataset), chosen, workers)
    looked_at = list(tqdm(photographs, 'Reading', len(chosen), leave=False, disable=not progress))
    return Survey(type(dataset).__name__, options, len(dataset), looked_at)


def _look_at(dataset: Any, index: int) -> Photograph:
    info = dataset.get_data_info(int(index))
    path, content = info['img_path'], info.get('img_bytes')
    try:
        content = Path(path).read_bytes() if content is None else content
    except OSError as error:
        return Photograph(path, f'{type(error).__name__}: {error.strerror}')
    checked, pixels = read_checked(path, content)
    if pixels is None:
        return Photograph(path, checked.fault)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return Photograph(path, None, checked.oddities, digest, _look(pixels), *pixels.shape[:2])


def _look(pixels: np.ndarray) -> int:
    """Difference hash: which of 9 x 8 grey pixels are darker than their right neighbour, 64 bits."""
    grey = Image.fromarray(pixels).convert('L')
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BILINEAR), np.int16)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    return int.from_bytes(bits.tobytes(), 'big')
