"""Memory that is freed is there for the next step."""

import platform
import subprocess
import sys

import pytest

CHURN = """
import resource, sys
import torch
from mvp_mm.engine.optim.freed_memory import give_back_freed_memory, keep_freed_memory
if sys.argv[1] != 'as it was':
    assert keep_freed_memory()
if sys.argv[1] == 'give back':
    assert give_back_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for step in range(5):
    before = faults()
    buffers = [torch.ones(2**20 * (20 + 3 * part)) for part in range(4)]
    del buffers
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc has these settings')
def test_a_step_gets_no_new_pages():
    def pages(mode):
        done = subprocess.run(
            [sys.executable, '-c', CHURN, mode], capture_output=True, text=True, check=True, timeout=300
        )
        return int(done.stdout)

    assert (
        pages('keep') < 100 < min(pages('as it was'), pages('give back'))
    )  # 392 MiB: 100,000 pages, or 196 huge ones
