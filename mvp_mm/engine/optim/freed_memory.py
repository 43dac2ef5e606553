import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's <malloc.h>


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees; return whether it took effect, which needs glibc.

    glibc maps and unmaps each large buffer anew, so a training step on a CPU spends part of its time getting
    the same zeroed pages again (docs/performance.md). Memory use stays at its peak until the process ends.
    """
    # no buffer in a mapping of its own, and never give back the end of the heap
    return set_malloc_options({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1})


def set_malloc_options(options: dict[int, int]) -> bool:
    """Set glibc's malloc options; return whether it took all."""
    change = getattr(ctypes.CDLL(None), 'mallopt', None) if sys.platform == 'linux' else None
    return change is not None and all(change(option, value) for option, value in options.items())
