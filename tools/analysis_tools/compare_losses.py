"""Losses of the fast path beside those of the plain one: same seed, same batches, float32.

    python tools/analysis_tools/compare_losses.py --steps 200

See docs/performance.md.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone's programs, which are not installed

import mvp_mm.engine as engine
from benchmarks.command_line import without_warnings
from benchmarks.loss_parity import largest_difference
from benchmarks.processor import describe_machine
from mvp_mm.wording import counted


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--steps', type=engine.positive_int, default=200, help='default %(default)s')
    args = parser.parse_args()
    with without_warnings():
        difference, fast, plain = largest_difference(args.steps)
    print('\n'.join(describe_machine(torch.device('cpu'))))
    print('\n| step | fast | plain |\n|---|---|---|')
    for step in sorted({*range(0, args.steps, max(1, args.steps // 10)), args.steps - 1}):
        print(f'| {step + 1} | {fast[step]:.7f} | {plain[step]:.7f} |')
    print(f'\nLargest difference of {counted(args.steps, "step")}: {difference:.2e}')


if __name__ == '__main__':
    engine.run_command_line(main)
