"""Jobs of several processes on this machine, without a GPU."""

import os
import subprocess
import sys
import time
from pathlib import Path

from faults.kills import free_port

__all__ = ['free_port', 'run']
ROOT = Path(__file__).parents[2]


def run(command, **environment):
    """Run to the end: status, output, seconds."""
    environment = {
        **os.environ,
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        **environment,
    }
    begin = time.monotonic()
    done = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True, timeout=500
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - begin
