"""Tiny-ImageNet's public archive as shards."""

import csv
from collections import defaultdict
from pathlib import Path

from mvp_mm.datasets import write_shards

# Photographs a class, of 500 and 50: as many as in the shards with which this project measured, whose files
# no longer have their names.
PER_CLASS = dict(train=200, val=25)


def write_tiny_imagenet(archive: Path, out: Path, progress: bool = True) -> None:
    """Write ``{train,val}-NNNN.tar`` of 1,000 photographs each, with names and numbers, and ``classes.txt``.

    Of each class the first :data:`PER_CLASS` are taken. Classes are numbered by their WordNet ids, in order.
    What is written stays.

    Args:
        archive: The unpacked ``tiny-imagenet-200``.
        out: Folder, which is made.
        progress: Show a progress bar.

    Raises:
        FileNotFoundError: If ``archive`` is not that folder.
    """
    if not (archive / 'wnids.txt').is_file():
        raise FileNotFoundError(
            f'there is no {archive}/wnids.txt: unpack tiny-imagenet-200.zip, and give its folder'
        )
    out.mkdir(parents=True, exist_ok=True)
    names = dict(line.split('\t') for line in (archive / 'words.txt').read_text().splitlines())
    ids = sorted((archive / 'wnids.txt').read_text().split())
    (out / 'classes.txt').write_text(''.join(f'{wnid}\t{names[wnid]}\n' for wnid in ids))
    annotations = (archive / 'val/val_annotations.txt').read_text().splitlines()
    images = dict(
        train=[(path, wnid) for wnid in ids for path in (archive / 'train' / wnid / 'images').iterdir()],
        val=[(archive / 'val/images' / name, wnid) for name, wnid, *_ in map(str.split, annotations)],
    )
    for split, found in images.items():
        of_class: dict[str, list[Path]] = defaultdict(list)
        for path, wnid in sorted(found):
            of_class[wnid].append(path)
        taken = sorted((path, wnid) for wnid, paths in of_class.items() for path in paths[: PER_CLASS[split]])
        listing = out / f'{split}.csv'
        with listing.open('w', newline='') as file:
            rows = csv.writer(file)
            rows.writerow(['image', 'caption', 'label'])
            rows.writerows([path.resolve(), names[wnid], ids.index(wnid)] for path, wnid in taken)
        write_shards(listing, out, split, progress=progress, label_key='label')
