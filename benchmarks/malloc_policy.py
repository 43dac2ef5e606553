"""How glibc's malloc treats freed memory while a variant runs."""

import ctypes
from collections.abc import Collection

import torch

from mvp_mm.engine.optim.freed_memory import (
    M_MMAP_MAX,
    M_TRIM_THRESHOLD,
    keep_freed_memory,
    set_malloc_options,
)

M_MMAP_THRESHOLD = -3
# Where glibc's own thresholds settle in a process that frees large buffers.
GIVE_BACK = {M_MMAP_MAX: 65536, M_MMAP_THRESHOLD: 32 * 2**20, M_TRIM_THRESHOLD: 64 * 2**20}


class MallocPolicy:
    """Give each variant the malloc behaviour of its own trainings, on a CPU.

    This package's trainings keep what they free (:func:`keep_freed_memory`), the others give it back.

    Args:
        device: Nothing is done for CUDA.
        keeping: Names of variants that keep what they free.
        indifferent: Names of variants that allocate nothing.
    """

    def __init__(
        self, device: torch.device, keeping: Collection[str], indifferent: Collection[str] = ()
    ) -> None:
        self.device = device
        self.keeping = keeping
        self.indifferent = indifferent
        self.kept: bool | None = None

    def __call__(self, name: str) -> bool:
        """Prepare for the variant of this name; return whether anything changed."""
        keep = name in self.keeping
        if self.device.type == 'cuda' or name in self.indifferent or keep == self.kept:
            return False
        self.kept = keep
        return keep_freed_memory() if keep else give_back_freed_memory()


def give_back_freed_memory() -> bool:
    """Undo :func:`keep_freed_memory`, and give back what is free now; return whether glibc took it.

    Freed memory below a block that is still in use stays in the heap, for glibc to hand out again.
    """
    done = set_malloc_options(GIVE_BACK)
    if done:
        ctypes.CDLL(None).malloc_trim(0)
    return done
