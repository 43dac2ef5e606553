"""What did each idea gain? Single operations of a ViT-B/16 step, each beside what it replaced.

    python tools/analysis_tools/benchmark_ideas.py --out ideas.md

See docs/performance.md.
"""

from mvp_mm.benchmark.command_line import run_benchmark
from mvp_mm.benchmark.ideas_report import benchmark_ideas


def main() -> None:
    run_benchmark(__doc__, benchmark_ideas, batch=(8, 256), rounds=(15, 50))


if __name__ == '__main__':
    main()
