"""Keep what a step frees for the next step, instead of giving it back to the system."""

import ctypes
import sys

# Of glibc's <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
NEVER = 2**31 - 1
# No buffer in a mapping of its own, and no end of the heap given back.
KEEP = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER}
# Where glibc's own thresholds come to lie in a process that frees large buffers.
GIVE_BACK = {M_MMAP_MAX: 65536, M_MMAP_THRESHOLD: 32 * 2**20, M_TRIM_THRESHOLD: 64 * 2**20}


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees.

    glibc maps each large buffer anew and unmaps it afterwards, so that a training step on a CPU spends
    part of its time on getting the same pages, zeroed, again and again (docs/performance.md). The memory in
    use stays at its peak until the process ends.

    Returns:
        Whether it took effect, which it does with glibc only.
    """
    return _set(KEEP)


def give_back_freed_memory() -> bool:
    """Undo :func:`keep_freed_memory`, and give back what is free now.

    Returns:
        Whether it took effect, which it does with glibc only.
    """
    done = _set(GIVE_BACK)
    if done:
        ctypes.CDLL(None).malloc_trim(0)
    return done


def _set(options: dict[int, int]) -> bool:
    change = getattr(ctypes.CDLL(None), 'mallopt', None) if sys.platform == 'linux' else None
    return change is not None and all(change(option, value) for option, value in options.items())
