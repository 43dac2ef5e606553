"""Keep the memory that a step frees for the next step."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # glibc's <malloc.h>
# No buffer in a mapping of its own, and never give back the end of the heap.
KEEP = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1}
# Where glibc's own thresholds settle in a process that frees large buffers.
GIVE_BACK = {M_MMAP_MAX: 65536, M_MMAP_THRESHOLD: 32 * 2**20, M_TRIM_THRESHOLD: 64 * 2**20}


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees.

    glibc maps and unmaps each large buffer anew, so a training step on a CPU spends part of its time getting
    the same zeroed pages again (docs/performance.md). Memory use stays at its peak until the process ends.

    Returns:
        Whether it took effect, which needs glibc.
    """
    return _set(KEEP)


def give_back_freed_memory() -> bool:
    """Undo :func:`keep_freed_memory`, and give back what is free now.

    Returns:
        Whether it took effect, which needs glibc.
    """
    done = _set(GIVE_BACK)
    if done:
        ctypes.CDLL(None).malloc_trim(0)
    return done


def _set(options: dict[int, int]) -> bool:
    change = getattr(ctypes.CDLL(None), 'mallopt', None) if sys.platform == 'linux' else None
    return change is not None and all(change(option, value) for option, value in options.items())
