"""How glibc's heap behaves while a variant runs."""

from collections.abc import Collection

import torch

from mvp_mm.engine.optim.freed_memory import give_back_freed_memory, keep_freed_memory


class HeapOfEach:
    """Gives each variant the heap that its own trainings have, on a CPU.

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
        """Change the heap if need be before the variant of this name runs; say whether it was changed."""
        keep = name in self.keeping
        if self.device.type == 'cuda' or name in self.indifferent or keep == self.kept:
            return False
        self.kept = keep
        return keep_freed_memory() if keep else give_back_freed_memory()
