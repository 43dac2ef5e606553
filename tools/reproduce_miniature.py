"""The paper's comparison in miniature: what guides the student best? On rendered scenes, nothing to download.

Every guidance (none, pixels, a vision-only teacher, CLIP) pre-trains the same tiny student on the same
scenes for the same steps; each student is then probed, and fine-tuned by UperNet with few labels. Writes a
table, a plot and every figure as JSON. Stop it whenever you like: the same command goes on where it was.
"""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone's programs, which are not installed

import mvp_mm.engine as engine
from experiments.jobs import run_jobs
from experiments.miniature.plan import BUDGETS, GUIDANCES, MAIN, PRETRAININGS, plan
from experiments.miniature.report import add_beside, collect, draw, legend, table
from mvp_mm.hardware import usable_cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--length', choices=list(BUDGETS), default='10min', help='default 10min')
    parser.add_argument('--out', type=Path, help='default work_dirs/miniature_<length>')
    known = ' '.join(f'{name} ({guidance.label})' for name, guidance in PRETRAININGS.items())
    parser.add_argument(
        '--guidance',
        nargs='+',
        help=f'of: {known}; default {" ".join(MAIN)}, and of the length captions '
        f'{" ".join(GUIDANCES["captions"])}',
    )
    parser.add_argument('--seeds', type=int, nargs='+', help="default: the length's")
    parser.add_argument(
        '--labels',
        type=engine.positive_int,
        nargs='+',
        help="numbers of labelled scenes; default: the length's",
    )
    parser.add_argument(
        '--jobs', type=engine.positive_int, default=usable_cores(), help='processes at a time; default: cores'
    )
    parser.add_argument(
        '--beside',
        type=Path,
        nargs='+',
        default=[],
        metavar='FOLDER',
        help=f'finished experiments; the table shows their rows of {" ".join(MAIN)}, too',
    )
    parser.add_argument('--report-only', action='store_true', help='table and plot of what is done')
    args = parser.parse_args()

    length = BUDGETS[args.length]
    out = args.out or Path('work_dirs') / f'miniature_{args.length}'
    guidances = args.guidance or GUIDANCES[args.length]
    jobs = plan(guidances, args.seeds or length.seeds, args.labels or length.labels, length)
    start = time.perf_counter()
    if not args.report_only:
        about = dict(length=args.length, **asdict(length))
        run_jobs(jobs, 'experiments.miniature.work', about, out, args.jobs)
    figures = collect(jobs, out)
    settings = dict.fromkeys(guidances, asdict(length))
    for folder in args.beside:
        settings |= add_beside(figures, guidances, folder, length)
    text = f'{table(figures)}\n\n{legend((row for row, _ in figures), settings)}'
    (out / 'table.md').write_text(text + '\n')
    draw(figures, out / 'miou.png')
    print(f'\n{text}\n\n{out}/table.md, {out}/miou.png; {time.perf_counter() - start:.0f} s')


if __name__ == '__main__':
    engine.run_command_line(main)
