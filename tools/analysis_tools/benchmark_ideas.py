"""What did each idea gain? Single operations of a ViT-B/16 step, each beside what it replaced.

    python tools/analysis_tools/benchmark_ideas.py --out ideas.md

See docs/performance.md.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone's programs, which are not installed

from benchmarks.command_line import run_benchmark
from benchmarks.ideas_report import benchmark_ideas


def main() -> None:
    run_benchmark(__doc__, benchmark_ideas, batch=(8, 256), rounds=(15, 50))


if __name__ == '__main__':
    main()
