"""Count training steps in the checkpoint."""

from typing import Any

import torch
from torch import Tensor, nn


class StepCounter(nn.Module):
    """A count that checkpoints hold, and that is read without waiting for the GPU in every step."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('steps', torch.zeros((), dtype=torch.int64))
        self._known: int | None = 0

    @property
    def count(self) -> int:
        """Steps so far."""
        if self._known is None:
            self._known = int(self.steps)
        return self._known

    def advance(self) -> None:
        """Count a step."""
        self._known = self.count + 1
        self.steps += 1

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._known = None
