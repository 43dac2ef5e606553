"""Write shards of images with texts, and check them, for the command line."""

import sys
from pathlib import Path
from typing import Any

from ..datasets.prepare.shards import check_shards, write_shards


def run_shards(
    source: str, images: str | None, out: str | None, check: bool, decode: bool, **options: Any
) -> None:
    """Write the shards of a folder or list to ``out``, or check those that ``source`` names.

    Arguments are those of ``mvp-mm shards``; the options are :func:`.write_shards`' and
    :class:`.ImageTextList`'s.

    Raises:
        ValueError: If it is to do neither, or both.
        SystemExit: If a shard has a fault: each is printed.
    """
    if check == (out is not None):
        raise ValueError('give --out DIR to write shards of a folder or list, or --check to read those there')
    if not check:
        if decode:
            raise ValueError('--decode goes with --check')
        options |= dict(ann_file=source) if images else {}
        paths = write_shards(images or source, Path(str(out)), **options)
        lost = Path(str(out)) / f'{options["prefix"]}.left_out.txt'
        number = len(lost.read_bytes().splitlines()) if lost.is_file() else 0
        note = f'; {number:,} images could not be read: {lost}' if number else ''
        print(f'{len(paths)} shards in {out}, of {paths[0].name} to {paths[-1].name}{note}')
        return
    faults, samples = check_shards(source, decode, options['workers'])
    for shard, found in faults.items():
        print(f'{shard} {"; ".join(found)}')
    if faults:
        sys.exit(f'{len(faults)} shards have faults; {samples:,} samples can be used')
    print(f'All shards are whole: {samples:,} samples')
