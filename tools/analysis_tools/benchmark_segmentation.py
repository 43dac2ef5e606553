"""How fast is UperNet at 512 pixels, in training and by sliding windows, beside mmseg's own BEiT?

    python tools/analysis_tools/benchmark_segmentation.py --out benchmarks/segmentation_cpu.md

See docs/performance.md.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone's programs, which are not installed

from benchmarks.command_line import add_one_heap, run_benchmark
from benchmarks.segmentation_report import benchmark_segmentation


def main() -> None:
    run_benchmark(__doc__, benchmark_segmentation, batch=(2, 16), rounds=(3, 20), more=add_one_heap)


if __name__ == '__main__':
    main()
