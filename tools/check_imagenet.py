"""Check by numbers whether a folder is ImageNet-1K as the configs read it."""

import argparse
from pathlib import Path

from mvp_mm.datasets.prepare import check_imagenet
from mvp_mm.datasets.prepare.imagenet import CLASSES, COUNTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', type=Path, metavar='ROOT', help='the folder that holds train and val')
    # for tests, which have a few images: the numbers of classes, training and validation images
    expected = (CLASSES, *COUNTS.values())
    parser.add_argument('--expected', type=int, nargs=3, default=expected, help=argparse.SUPPRESS)
    args = parser.parse_args()
    classes, *numbers = args.expected
    counts = dict(zip(COUNTS, numbers, strict=True))
    problems = check_imagenet(args.root, classes, counts, progress=True)
    if problems:
        listed = '\n'.join(f'* {problem}' for problem in problems)
        parser.exit(1, f'{args.root} is not ImageNet-1K as expected:\n{listed}\n')
    found = ' and '.join(f'{count:,} {split}' for split, count in counts.items())
    print(f'{args.root} is complete: {classes:,} classes, {found} images')


if __name__ == '__main__':
    main()
