"""The whole chain in minutes on rendered scenes: pre-train, fine-tune with few labels, compare, draw."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone's programs, which are not installed

import mvp_mm.engine as engine
from experiments.miniature.demonstration import LABELS, demonstrate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/demonstration'), help='folder for everything'
    )
    args = parser.parse_args()
    scores = demonstrate(args.out)
    print(f'\nmIoU on 1000 test scenes after {LABELS} labelled ones:')
    for name, score in scores.items():
        print(f'  {name:<16} {score:5.1f}')


if __name__ == '__main__':
    engine.run_command_line(main)
