"""Write shards of images with texts, and check them, for the command line."""

import sys
from pathlib import Path
from typing import Any

from ..datasets.prepare.shards import check_shards, write_shards
from ..datasets.sources.image_text_shards import ImageTextShards
from ..wording import counted


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
        names = f'{paths[0].name} to {paths[-1].name}' if len(paths) > 1 else paths[0].name
        print(f'{counted(len(paths), "shard")} in {out}: {names}')
        print(ImageTextShards(str(out), options['prefix']).captions_note())
        if number:
            print(f'{counted(number, "image")} could not be read: {lost}')
        return
    faults, samples = check_shards(source, decode, options['workers'])
    for shard, found in faults.items():
        print(f'{shard} {"; ".join(found)}')
    if faults:
        there = 'have faults' if len(faults) > 1 else 'has a fault'
        sys.exit(f'{counted(len(faults), "shard")} {there}; {counted(samples, "sample")} can be used')
    print(f'All shards are whole: {counted(samples, "sample")}')
