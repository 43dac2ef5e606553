"""Find the images that training could not read: truncated, empty, no images, too large, not permitted, gone.

A folder is read as pre-training reads it, and its sub-folder val too if it has train and val; a config's
training and validation datasets as their pipelines do.
"""

import argparse
from collections import Counter
from pathlib import Path

from mmengine.registry import DATASETS, init_default_scope

import mvp_mm.engine as engine
from mvp_mm.datasets import UnlabelledImages
from mvp_mm.datasets.prepare.find_unreadable import ODDITIES, check_dataset
from mvp_mm.engine.checkpoint.safe_checkpoint import atomic_write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', metavar='FOLDER|CONFIG', help='folder of images, or config file')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('bad_images.txt'),
        help='list to write: path, tab, reason (default: %(default)s)',
    )
    parser.add_argument('--workers', type=int, help='processes (default: one per core)')
    parser.add_argument('--cfg-options', nargs='+', action=engine.OptionAction, help='override config values')
    args = parser.parse_args()
    if args.workers is not None and args.workers < 1:
        parser.error(f'--workers {args.workers} is no number of processes: give 1 or more')
    if not args.out.parent.is_dir():  # found out before hours of reading, not after
        parser.error(f'--out {args.out}: there is no folder {args.out.parent}')

    bad, odd, total = {}, Counter(), 0
    for dataset in datasets(args.source, args.cfg_options):
        found = check_dataset(dataset, args.workers, progress=True)
        total += len(found)
        bad |= {sample.path: sample.fault for sample in found if sample.fault is not None}
        bad |= getattr(dataset, 'unreadable_folders', {})
        odd.update(oddity for sample in found for oddity in sample.oddities)
        if left_out := getattr(dataset, 'left_out', None):
            listed = ', '.join(f'{count} *{suffix}' for suffix, count in left_out.most_common(5))
            print(f'Not read, because their names are not those of images: {listed}')
    for oddity, count in odd.most_common():
        print(f'{count} images: {oddity} ({ODDITIES[oddity]})')
    atomic_write_text(args.out, ''.join(f'{path}\t{reason}\n' for path, reason in sorted(bad.items())))
    if bad:
        parser.exit(1, f'{len(bad)} of {total} cannot be read; they are listed in {args.out}\n')
    print(f'All {total} images can be read')


def datasets(source: str, cfg_options: dict | None) -> list:
    """The datasets of a folder or config."""
    if not Path(source).is_file():
        if cfg_options:
            raise ValueError('--cfg-options are for a config, and this is a folder')
        has_both = all((Path(source) / split).is_dir() for split in ('train', 'val'))
        return [UnlabelledImages(source, split) for split in (('train', 'val') if has_both else ('train',))]
    cfg = engine.load_config(source, cfg_options=cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    loaders = [cfg.get(f'{phase}_dataloader') for phase in ('train', 'val')]
    return [DATASETS.build(loader.dataset) for loader in loaders if loader]


if __name__ == '__main__':
    engine.run_command_line(main, quiet=True)
