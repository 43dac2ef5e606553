"""The paper's comparison in miniature: what guides the student best? On rendered scenes, nothing to download.

Every guidance (none, pixels, a vision-only teacher, CLIP) pre-trains the same tiny student on the same
scenes for the same steps; each student is then probed, and fine-tuned by UperNet with few labels. Writes a
table, a plot and every figure as JSON. Stop it whenever you like: the same command goes on where it was.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone's programs, which are not installed

import mvp_mm.engine as engine
from experiments.miniature.plan import BUDGETS, MAIN, PRETRAININGS, plan
from experiments.miniature.report import collect, draw, table
from experiments.miniature.run import run_jobs
from mvp_mm.hardware import usable_cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--length', choices=list(BUDGETS), default='10min', help='default 10min')
    parser.add_argument('--out', type=Path, help='default work_dirs/miniature_<length>')
    known = ' '.join(f'{name} ({guidance.label})' for name, guidance in PRETRAININGS.items())
    parser.add_argument(
        '--guidance', nargs='+', default=list(MAIN), help=f'of: {known}; default {" ".join(MAIN)}'
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
    parser.add_argument('--report-only', action='store_true', help='table and plot of what is done')
    args = parser.parse_args()

    length = BUDGETS[args.length]
    out = args.out or Path('work_dirs') / f'miniature_{args.length}'
    jobs = plan(args.guidance, args.seeds or length.seeds, args.labels or length.labels, length)
    start = time.perf_counter()
    if not args.report_only:
        run_jobs(jobs, args.length, out, args.jobs)
    figures = collect(jobs, out)
    text = table(figures)
    (out / 'table.md').write_text(text + '\n')
    draw(figures, out / 'miou.png')
    print(f'\n{text}\n\n{out}/table.md, {out}/miou.png; {time.perf_counter() - start:.0f} s')


if __name__ == '__main__':
    engine.run_command_line(main)
