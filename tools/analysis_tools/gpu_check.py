"""Check this package on one GPU: correct, how fast, how much memory, beside its peers.

    python tools/analysis_tools/gpu_check.py --seconds 450 --out DIR

DIR gets results.jsonl (a line a finding, at once), table.md, log.txt and profile.txt. A stage that fails or
overruns its limit does not stop the others; the exit status is 0 if all that fitted into the time were run.
"""

import os
import time

BEGUN = time.monotonic()
# Stages are forked from this process. So it must not touch the GPU: it asks NVML for it, and begins none of
# the compiler's workers.
os.environ.setdefault('PYTORCH_NVML_BASED_CUDA_CHECK', '1')
os.environ.setdefault('TORCH_WARM_POOL', '0')

import argparse  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone's programs, which are not installed
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / 'tests'))

import mvp_mm.engine as engine  # noqa: E402
from benchmarks.gpu import check, imports, stages  # noqa: E402, F401


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--seconds', type=engine.positive_float, default=450, help='for everything (default: %(default)s)'
    )
    parser.add_argument('--out', type=Path, required=True, help='folder for the results')
    parser.add_argument('--stages', type=int, nargs='+', help='numbers (default: all)')
    parser.add_argument(
        '--scale', choices=('full', 'debug'), default='full', help='debug: tiny, to see that all of it runs'
    )
    args = parser.parse_args()
    groups = stages.chosen(args.stages)
    if not torch.cuda.is_available():
        raise ValueError(
            'this checks a GPU, and torch finds none (`mvp-mm doctor` says more); for a CPU there are '
            'benchmark_pretrain.py and its neighbours'
        )
    print(check.check_gpu(groups, args.out, args.seconds, args.scale, BEGUN))


if __name__ == '__main__':
    engine.run_command_line(main)
