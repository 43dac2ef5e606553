"""Download, unpack and verify ADE20K (0.97 GB); the next call resumes an interrupted download."""

import argparse
from pathlib import Path

from mvp_mm.datasets.prepare import prepare_ade20k, verify_ade20k
from mvp_mm.datasets.prepare.ade20k import COUNTS, FOLDER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--root', type=Path, default=Path('data/ade'), help='folder (default data/ade)')
    parser.add_argument(
        '--mirror',
        action='append',
        default=[],
        metavar='URL',
        help='another address of the zip, tried before the official one; repeat for several',
    )
    parser.add_argument('--archive', type=Path, metavar='FILE', help='the zip, if you have it already')
    parser.add_argument('--sha256', help='refuse a zip with another SHA-256')
    parser.add_argument('--thorough', action='store_true', help='decode every image, not a sample (minutes)')
    parser.add_argument('--check-only', action='store_true', help='verify what is there; download nothing')
    # for tests, which have a few images: the numbers of training and validation images
    parser.add_argument('--expected', type=int, nargs=2, default=COUNTS.values(), help=argparse.SUPPRESS)
    args = parser.parse_args()
    counts = dict(zip(COUNTS, args.expected, strict=True))
    try:
        if args.check_only:
            problems = verify_ade20k(args.root / FOLDER, args.thorough, counts, progress=True)
            if problems:
                raise ValueError('\n  '.join(['this is not all of ADE20K as expected:', *problems]))
            print(f'{args.root / FOLDER} is complete')
        else:
            prepare_ade20k(args.root, args.mirror, args.archive, args.sha256, args.thorough, counts)
    except (OSError, ValueError) as error:
        parser.exit(1, f'{parser.prog}: {error}\n')
    except KeyboardInterrupt:
        parser.exit(130, f'\n{parser.prog}: interrupted; the next call resumes the download\n')


if __name__ == '__main__':
    main()
