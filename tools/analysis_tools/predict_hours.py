"""Hours of a 300-epoch pre-training on 1, 8, 16 and 64 GPUs, from the rates that the benchmarks measured.

    python tools/analysis_tools/predict_hours.py --step-rate 1500 --loader-rate 450 --cores 12

The step's rate is benchmark_pretrain.py's images/s, the loader's benchmark_data.py's images/s a core. See
docs/performance.md for what is assumed beside them.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone's programs, which are not installed

import mvp_mm.engine as engine
from benchmarks.hours import Assumptions, predicted_hours


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--step-rate', type=engine.positive_float, required=True, help='images/s of one GPU')
    parser.add_argument(
        '--loader-rate', type=engine.positive_float, required=True, help='images/s of one core'
    )
    parser.add_argument(
        '--cores', type=engine.positive_int, default=12, help='for the loaders of a GPU (default %(default)s)'
    )
    parser.add_argument('--epochs', type=engine.positive_int, default=300, help='default %(default)s')
    parser.add_argument(
        '--parameters', type=engine.positive_float, default=86e6, help='default ViT-B/16: %(default).3g'
    )
    parser.add_argument('--bf16-gradients', action='store_true', help='half the bytes')
    parser.add_argument(
        '--gpus', type=engine.positive_int, nargs='+', default=[1, 8, 16, 64], help='default 1 8 16 64'
    )
    args = parser.parse_args()
    given = Assumptions(
        args.step_rate,
        args.loader_rate,
        args.cores,
        parameters=args.parameters,
        bytes_each=2 if args.bf16_gradients else 4,
        epochs=args.epochs,
    )
    assumed = (f'{name.replace("_", " ")} {value:,g}' for name, value in asdict(given).items())
    print(f'Assumed: {", ".join(assumed)}\n\n| GPUs | hours | GPU-hours | limited by |\n|---|---|---|---|')
    for gpus in args.gpus:
        hours, limit = predicted_hours(gpus, given)
        print(f'| {gpus} | {hours:.1f} | {gpus * hours:.0f} | {limit} |')


if __name__ == '__main__':
    engine.run_command_line(main)
