"""How fast is UperNet at 512 pixels, in training and by sliding windows, beside mmseg's own BEiT?

    python tools/analysis_tools/benchmark_segmentation.py --out benchmarks/segmentation_cpu.md

See docs/performance.md.
"""

from mvp_mm.benchmark.command_line import add_one_heap, run_benchmark
from mvp_mm.benchmark.segmentation_report import benchmark_segmentation


def main() -> None:
    run_benchmark(__doc__, benchmark_segmentation, batch=(2, 16), rounds=(3, 20), more=add_one_heap)


if __name__ == '__main__':
    main()
