"""How fast is one pre-training step? This package, its peers and the bare matrix products, in one process.

The variants take turns, so that what else the machine does strikes all of them; medians and ratios count.

    python tools/analysis_tools/benchmark_pretrain.py --out benchmarks/pretrain_cpu.md

See docs/performance.md.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone's programs, which are not installed

from benchmarks.command_line import add_one_heap, run_benchmark
from benchmarks.pretrain_report import benchmark_pretrain
from benchmarks.pretrain_variants import PEERS


def more(parser: argparse.ArgumentParser) -> None:
    add_one_heap(parser)
    parser.add_argument('--arch', choices=('base', 'large'), default='base', help='student (default base)')
    parser.add_argument(
        '--peers',
        nargs='*',
        choices=list(PEERS),
        default=['beitv2', 'plain'],
        help='to compare with (default: beitv2 plain)',
    )
    parser.add_argument(
        '--compile',
        dest='compiled',
        action='store_true',
        help='also this package compiled, which is the default on CUDA (there: --peers eager)',
    )


def main() -> None:
    run_benchmark(__doc__, benchmark_pretrain, batch=(8, 256), rounds=(7, 20), more=more)


if __name__ == '__main__':
    main()
