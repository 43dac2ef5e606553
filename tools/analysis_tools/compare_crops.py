"""FastCrop beside BEiT's order of work: differences with the same draws, statistics with its own.

Prints Markdown tables; --sheet writes a picture of crops of either kind.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone's programs, which are not installed

import mvp_mm.engine as engine
from benchmarks import data as measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', help='photographs, at any depth')
    parser.add_argument('--images', type=engine.positive_int, help='at most so many (default: all)')
    parser.add_argument(
        '--rounds', type=engine.positive_int, default=10, help='crops of each image (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument(
        '--sheet', help="picture to write: twelve columns of FastCrop's crop, BEiT's, 16 x their difference"
    )
    args = parser.parse_args()

    measure.one_thread()
    if args.sheet:
        measure.write_sheet(measure.image_paths(args.folder, 12), args.sheet, seed=args.seed)
    paths = measure.image_paths(args.folder, args.images)
    print(measure.compare_crops(paths, args.rounds, seed=args.seed).markdown())


if __name__ == '__main__':
    engine.run_command_line(main, quiet=True)
