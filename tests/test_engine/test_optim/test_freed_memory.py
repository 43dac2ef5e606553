"""Memory that is freed is there for the next step."""

import platform
import subprocess
import sys

import pytest

CHURN = """
import resource
import torch
from benchmarks.malloc_policy import give_back_freed_memory
from mvp_mm.engine.optim.freed_memory import keep_freed_memory

def new_pages():
    for step in range(6):  # the heap may need some to settle
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        buffers = [torch.ones(2**20 * (20 + 3 * part)) for part in range(4)]
        del buffers
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = new_pages()
assert keep_freed_memory()
# undone before the heap has grown: a block still in use above freed memory would keep that memory in the heap
assert give_back_freed_memory()
given_back = new_pages()
assert keep_freed_memory()
print('PAGES', before, new_pages(), given_back)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc has these settings')
def test_a_step_gets_no_new_pages():
    command = [sys.executable, '-c', CHURN]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    before, kept, given_back = map(int, done.stdout.split('PAGES')[1].split())
    assert kept < 100 < min(before, given_back)  # 392 MiB: 100,000 pages, or 196 huge ones
