"""Write a student for another library, compared with it in that library before it is put in place.

The checkpoint may be a pre-training checkpoint as it is, a classifier, a segmentation model (its backbone), a
bare weight file or one of another library. The architecture is read off the weights unless a config is given.
"""

import argparse
import sys

from mvp_mm.engine import positive_int, run_command_line
from mvp_mm.export import TARGETS, export


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('target', choices=list(TARGETS))
    parser.add_argument('checkpoint', help='any BEiT-family weight file, or its address')
    parser.add_argument('out', help='file to write; for transformers a folder')
    parser.add_argument('--config', help='take the architecture from model.backbone of this config')
    parser.add_argument(
        '--img-size',
        type=positive_int,
        nargs='+',
        metavar='PIXELS',
        help='resize the bias tables for this size: side, or height and width (default: as they are)',
    )
    parser.add_argument(
        '--prefix', help='of several transformers in the file, the one whose names begin so, as in teacher.'
    )
    args = parser.parse_args()
    size = tuple(args.img_size * 2)[:2] if args.img_size else None
    if args.img_size and len(args.img_size) > 2:
        parser.error('--img-size takes a side, or height and width')
    try:
        print(export(args.target, args.checkpoint, args.out, args.config, size, args.prefix))
    except ImportError as error:
        sys.exit(f'\nERROR: {error}')


if __name__ == '__main__':
    run_command_line(main)
