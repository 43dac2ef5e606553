"""Draw training curves of several runs side by side from MMEngine's JSON logs, for a paper.

    python tools/plot_curves.py work_dirs/clip work_dirs/pixel --keys loss 'cosine_*' --out curves.pdf

See docs/pictures.md.
"""

import argparse
from pathlib import Path

from mvp_mm.engine import positive_int, run_command_line
from mvp_mm.engine.run_log import read_runs
from mvp_mm.visualization.paper_figure import DPI, figure_path, save_figure
from mvp_mm.visualization.training_curves import USUAL, draw_curves


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', nargs='+', metavar='RUN', help='work dir (its restarts are joined), or a log')
    parser.add_argument(
        '--keys',
        nargs='+',
        default=[],
        metavar='PATTERN',
        help=f'keys of the log, with * as in a shell (default: those of {" ".join(USUAL)} that there are)',
    )
    parser.add_argument('--out', type=Path, default=Path('curves.png'), help='default curves.png')
    parser.add_argument(
        '--titles', nargs='+', default=[], help="for the legend (default: the work dirs' names)"
    )
    parser.add_argument(
        '--smooth', type=float, default=0.0, help='weight of the past, 0 to below 1 (default 0)'
    )
    parser.add_argument('--log', nargs='+', default=[], metavar='PATTERN', help='keys on a logarithmic axis')
    parser.add_argument('--columns', type=positive_int, default=3, help='panels per row (default 3)')
    parser.add_argument('--dpi', type=positive_int, default=DPI, help=f'default {DPI}')
    args = parser.parse_args()
    figure_path(args.out)
    runs = read_runs(args.runs, args.titles)
    save_figure(draw_curves(runs, args.keys, args.columns, args.smooth, args.log), args.out, args.dpi)
    print(f'{len(runs)} runs drawn to {args.out}')


if __name__ == '__main__':
    run_command_line(main)
