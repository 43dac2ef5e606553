from collections import defaultdict
from typing import Any

import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor

FLUSH_AFTER = 4096  # pending scalars: far more than a log every 50 iterations leaves


class DeferredMessageHub(MessageHub):
    """MMEngine's message hub, which reads tensors when a log or checkpoint asks for them, in one copy.

    MMEngine reads each loss at once, so the CPU waits for the GPU instead of queueing the next step.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        self._pending: list[tuple[str, Tensor, int]] = []
        super().__init__(name, **kwargs)

    @classmethod
    def as_instance(cls, name: str) -> MessageHub:
        """Return the message hub that MMEngine gives by this name, made here unless it exists."""
        if not MessageHub.check_instance_created(name):
            MessageHub._instance_dict[name] = cls(name)
        return MessageHub.get_instance(name)

    def update_scalar(self, key: str, value: Any, count: int = 1, resumed: bool = True) -> None:
        """Record a value; a tensor of one element is cloned on its device and read later."""
        if not isinstance(value, Tensor) or value.numel() != 1:
            self._flush(key)
            super().update_scalar(key, value, count, resumed)
            return
        self._set_resumed_keys(key, resumed)
        self._pending.append((key, value.detach().reshape(()).clone(), count))
        if len(self._pending) >= FLUSH_AFTER:
            self._flush()

    def get_scalar(self, key: str) -> HistoryBuffer:
        """Return a history; other pending scalars stay pending."""
        self._flush(key)
        return self._log_scalars[key] if key in self._log_scalars else super().get_scalar(key)

    @property
    def log_scalars(self) -> dict[str, HistoryBuffer]:
        self._flush()
        return super().log_scalars

    def state_dict(self) -> dict:
        self._flush()
        return super().state_dict()

    def _flush(self, key: str | None = None) -> None:
        """Read all pending scalars, one copy per device and dtype; with a key, only if it is pending."""
        if key is not None and all(key != pending for pending, _, _ in self._pending):
            return
        pending, self._pending = self._pending, []
        by_kind = defaultdict(list)
        for index, (_, value, _) in enumerate(pending):
            by_kind[value.device, value.dtype].append(index)
        numbers: dict[int, float] = {}
        for indices in by_kind.values():
            stacked = torch.stack([pending[index][1] for index in indices])
            numbers.update(zip(indices, stacked.tolist(), strict=True))
        for index, (key, _, count) in enumerate(pending):
            super().update_scalar(key, numbers[index], count, self._resumed_keys[key])
