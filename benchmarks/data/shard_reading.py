"""How long the files of photographs take to read, without decoding them: a folder and shards of the same."""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mvp_mm.datasets import ImageTextList, ImageTextShards, SampleIndex, UnlabelledImages, write_shards

from .loader_speed import Timing, interleaved

FOLDER = 'folder of images (UnlabelledImages)'
SHARDS = 'shards of the same (ImageTextShards)'
CAPTIONED_FOLDER = 'folder with a text beside each image (ImageTextList)'
CAPTIONED_SHARDS = 'shards of the same, with the text'


def measure_reading(paths: Sequence[str], side: int | None = None, rounds: int = 7) -> dict[str, Timing]:
    """Time from a sample's number to the bytes of its image, and its text, draws seeded.

    Args:
        paths: JPEG files. Copies of them are read, in a random order; after the first round, which does not
            count, they are in the memory of the system.
        side: Shrink them to squares of so many pixels first. Default None: as they are.
        rounds: See :func:`interleaved`.

    Returns:
        By name.
    """
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / 'plain').mkdir()
        (root / 'captioned').mkdir()
        for number, path in enumerate(paths):
            copies = [root / kind / f'{number:06d}.jpg' for kind in ('plain', 'captioned')]
            if side is None:
                copies[0].write_bytes(Path(path).read_bytes())
            else:
                Image.open(path).convert('RGB').resize((side, side)).save(copies[0], quality=90)
            copies[1].write_bytes(copies[0].read_bytes())
            copies[1].with_suffix('.txt').write_text(f'photograph number {number}')
        for kind in ('plain', 'captioned'):
            write_shards(root / kind, root / f'{kind}_shards', progress=False)
        sources = {
            FOLDER: UnlabelledImages(str(root / 'plain'), pipeline=[_bytes]),
            SHARDS: ImageTextShards(str(root / 'plain_shards'), pipeline=[_bytes]),
            CAPTIONED_FOLDER: ImageTextList(str(root / 'captioned'), pipeline=[_bytes]),
            CAPTIONED_SHARDS: ImageTextShards(str(root / 'captioned_shards'), pipeline=[_bytes]),
        }
        order = list(range(len(paths)))
        random.Random(0).shuffle(order)
        variants = {
            name: lambda number, source=source: source[SampleIndex(order[number], 0, 0)]
            for name, source in sources.items()
        }
        return interleaved(variants, len(paths), rounds)


def _bytes(results: dict) -> bytes:
    """The pipeline's only step: read the file, where it is one."""
    if 'img_bytes' in results:
        return results['img_bytes']
    with open(results['img_path'], 'rb') as file:
        return file.read()


def reading_report(found: dict[str, Timing], what: str) -> str:
    """A measurement as a Markdown table: shards against the folder that holds the same."""
    lines = [
        f'| {what}, read and not decoded | samples/s a core | CPU µs a sample | speed, times the folder |'
    ]
    lines.append('|---|---|---|---|')
    for name, timing in found.items():
        cpu = np.median(timing.cpu)
        folder = found[CAPTIONED_FOLDER if name in (CAPTIONED_FOLDER, CAPTIONED_SHARDS) else FOLDER]
        lines.append(f'| {name} | {1 / cpu:.0f} | {1e6 * cpu:.1f} | {folder.ratio(timing):.2f} |')
    return '\n'.join(lines)
