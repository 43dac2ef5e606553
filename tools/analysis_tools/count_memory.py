"""Count the memory of a training step of RILS on a GPU: on tensors without values, on any machine.

    python tools/analysis_tools/count_memory.py configs/rils/vitb16_l20m.py --gpus 8 16 64

See docs/rils.md.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone's programs, which are not installed

from benchmarks.training_memory import memory_table
from mvp_mm.engine import positive_int, run_command_line


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', help='of RILS')
    parser.add_argument('--total', type=positive_int, default=4096, help='pairs of all GPUs (default 4096)')
    parser.add_argument('--gpus', type=positive_int, nargs='+', default=[8, 16, 64], help='default 8 16 64')
    args = parser.parse_args()
    print(f'GB (10^9 bytes) of a GPU\n\n{memory_table(args.configs, args.total, args.gpus)}')


if __name__ == '__main__':
    run_command_line(main)
