"""RILS beside CLIP alone on small photographs, from a cold start: what do names tell of classes never seen?

Every method trains the same tiny student on Tiny-ImageNet's photographs of 160 classes, whose names are the
captions; names then tell apart photographs of these classes, and of 40 others that were held out. Stop it
whenever you like: the same command goes on where it was.
"""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone's programs, which are not installed

import mvp_mm.engine as engine
from experiments.jobs import run_jobs
from experiments.photographs.plan import BUDGETS, METHODS, plan
from experiments.photographs.prepare import write_tiny_imagenet
from experiments.photographs.report import table
from mvp_mm.hardware import usable_cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--length', choices=list(BUDGETS), default='2h', help='default 2h')
    parser.add_argument('--out', type=Path, help='default work_dirs/photographs_<length>')
    parser.add_argument(
        '--data',
        type=Path,
        default=Path('data/tiny_imagenet'),
        help='folder of {train,val}-*.tar and classes.txt; default %(default)s',
    )
    parser.add_argument(
        '--archive', type=Path, metavar='DIR', help='the unpacked tiny-imagenet-200, to make --data of'
    )
    known = ' '.join(f'{name} ({method.label})' for name, method in METHODS.items())
    parser.add_argument('--methods', nargs='+', default=list(METHODS), help=f'of: {known}; default all')
    parser.add_argument('--seeds', type=int, nargs='+', help="default: the length's")
    parser.add_argument(
        '--jobs', type=engine.positive_int, default=usable_cores(), help='processes at a time; default: cores'
    )
    parser.add_argument('--report-only', action='store_true', help='table of what is done')
    args = parser.parse_args()

    length = BUDGETS[args.length]
    out = args.out or Path('work_dirs') / f'photographs_{args.length}'
    jobs = plan(args.methods, args.seeds or length.seeds)
    start = time.perf_counter()
    if not args.report_only:
        if args.archive is not None:
            write_tiny_imagenet(args.archive, args.data)
        if not (args.data / 'classes.txt').is_file():
            raise FileNotFoundError(
                f'there is no {args.data}/classes.txt: give the folder of the shards as --data, or '
                'the unpacked tiny-imagenet-200 as --archive'
            )
        about = dict(length=args.length, **asdict(length))
        data = str(args.data.resolve())
        run_jobs(jobs, 'experiments.photographs.work', about, out, args.jobs, data)
    out.mkdir(parents=True, exist_ok=True)
    text = table(jobs, out)
    (out / 'table.md').write_text(text + '\n')
    print(f'\n{text}\n\n{out}/table.md; {time.perf_counter() - start:.0f} s')


if __name__ == '__main__':
    engine.run_command_line(main)
