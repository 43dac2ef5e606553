"""Keep what a step frees for the next step, instead of giving it back to the system."""

import ctypes
import sys

# Of glibc's <malloc.h>: no buffer in a mapping of its own, and no end of the heap given back.
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees.

    glibc maps each large buffer anew and unmaps it afterwards, so that a training step on a CPU spends
    part of its time on getting the same pages, zeroed, again and again (docs/performance.md). Memory in use
    is not more at its peak; it stays at the peak until the process ends.

    Returns:
        Whether it took effect, which it does with glibc only.
    """
    if sys.platform != 'linux':
        return False
    change = getattr(ctypes.CDLL(None), 'mallopt', None)
    return change is not None and bool(change(M_MMAP_MAX, 0) and change(M_TRIM_THRESHOLD, NEVER))
