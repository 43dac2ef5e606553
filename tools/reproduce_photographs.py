"""The paper's comparison on small photographs: what guides the student best? Anyone's evening, on two cores.

A small CLIP learns from the names of 160 of Tiny-ImageNet's classes, a vision-only teacher from the
photographs alone. Each method (none, pixels, a teacher, RILS) pre-trains the same tiny student; each student
is measured on 40 classes that no training has seen, fine-tuned with few labels, and segments CamVid's street
scenes. Writes a table, curves and every figure as JSON. Stop it whenever you like: the same command goes on
where it was. The length 2h compares RILS with CLIP alone, from a cold start (docs/rils.md).
"""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone's programs, which are not installed

import mvp_mm.engine as engine
from experiments.jobs import run_jobs
from experiments.photographs.plan import BUDGETS, METHODS, METHODS_OF, plan
from experiments.photographs.prepare import write_tiny_imagenet
from experiments.photographs.report import claims, collect, draw, legend, table
from mvp_mm.hardware import usable_cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--length', choices=list(BUDGETS), default='evening', help='default evening')
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
    parser.add_argument(
        '--camvid',
        type=Path,
        default=Path('data/camvid'),
        help='folder of images/{train,val} and annotations/{train,val}; default %(default)s',
    )
    known = ' '.join(f'{name} ({method.label})' for name, method in METHODS.items())
    parser.add_argument('--methods', nargs='+', help=f"of: {known}; default: the length's")
    parser.add_argument('--seeds', type=int, nargs='+', help="default: the length's")
    parser.add_argument(
        '--jobs', type=engine.positive_int, default=usable_cores(), help='processes at a time; default: cores'
    )
    parser.add_argument('--report-only', action='store_true', help='table and curves of what is done')
    args = parser.parse_args()

    length = BUDGETS[args.length]
    out = args.out or Path('work_dirs') / f'photographs_{args.length}'
    jobs = plan(args.methods or METHODS_OF[args.length], args.seeds or length.seeds, length)
    start = time.perf_counter()
    if not args.report_only:
        if args.archive is not None:
            write_tiny_imagenet(args.archive, args.data)
        if not (args.data / 'classes.txt').is_file():
            raise FileNotFoundError(
                f'there is no {args.data}/classes.txt: give the folder of the shards as --data, or '
                'the unpacked tiny-imagenet-200 as --archive'
            )
        if length.street_labels and not (args.camvid / 'annotations/train').is_dir():
            raise FileNotFoundError(
                f'there is no {args.camvid}/annotations/train: give the folder of CamVid as --camvid '
                '(docs/photographs.md)'
            )
        about = dict(length=args.length, **asdict(length))
        folders = str(args.data.resolve()), str(args.camvid.resolve())
        run_jobs(jobs, 'experiments.photographs.work', about, out, args.jobs, *folders)
    out.mkdir(parents=True, exist_ok=True)
    figures = collect(jobs, out)
    text = '\n\n'.join(filter(None, (table(figures), legend(figures), claims(figures))))
    (out / 'table.md').write_text(text + '\n')
    draw(figures, out / 'labels.png')
    print(f'\n{text}\n\n{out}/table.md; {time.perf_counter() - start:.0f} s')


if __name__ == '__main__':
    engine.run_command_line(main)
