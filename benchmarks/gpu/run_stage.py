"""A stage in a process of its own, begun anew: ``python -m benchmarks.gpu.run_stage ...``."""

import os
import sys

from .processes import run_stage

if __name__ == '__main__':
    os._exit(run_stage(*sys.argv[1:]))
