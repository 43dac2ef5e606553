"""Images a second of a small pre-training with evaluators off, waiting, and learning beside it.

    python tools/analysis_tools/benchmark_evaluators.py --rounds 5

Whole trainings on the embedded scenes, by turns in one process. See docs/pretraining.md.
"""

import argparse
import shlex
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone's programs, which are not installed

import mvp_mm.engine as engine
from benchmarks.command_line import without_warnings
from benchmarks.evaluators_cost import evaluators_report, measure_evaluators
from benchmarks.processor import describe_machine


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--steps', type=engine.positive_int, default=60, help='timed steps of 64 scenes')
    parser.add_argument('--rounds', type=engine.positive_int, default=5, help='default %(default)s')
    parser.add_argument('--off', action='store_true', help='only a config without the key, and an empty list')
    parser.add_argument('--out', type=Path, help='Markdown file to write')
    args = parser.parse_args()
    with without_warnings():
        found = measure_evaluators(args.steps, args.rounds, 2 if args.off else None)
    command = f'python {shlex.join(["tools/analysis_tools/benchmark_evaluators.py", *sys.argv[1:]])}'
    machine = '\n'.join(describe_machine(torch.device('cpu')))
    text = f'`{command}`\n\n{machine}\n\n{evaluators_report(found, args.steps)}'
    print(text)
    if args.out:
        args.out.write_text(text + '\n')


if __name__ == '__main__':
    engine.run_command_line(main)
