"""Log values that are still being computed, without waiting for them."""

from collections import defaultdict

import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor

# Values that may wait: far more than a log every 50 iterations leaves, and little memory without any.
MOST = 4096


class DeferredMessageHub(MessageHub):
    """MMEngine's message hub, but tensors are read when somebody asks for them, all in one copy.

    MMEngine reads every loss in every iteration, and the CPU waits for the GPU each time, while it could
    already be sending the next step. Here a value stays where it is until the log or a checkpoint wants it;
    the histories are the same.

    Args:
        name: As MMEngine's.
        **kwargs: As MMEngine's.
    """

    def __init__(self, name: str, **kwargs) -> None:
        self._waiting: list[tuple[str, Tensor, int]] = []
        super().__init__(name, **kwargs)

    @classmethod
    def as_instance(cls, name: str) -> MessageHub:
        """The message hub of a name, for all who ask MMEngine for it; made here unless it is there."""
        if not MessageHub.check_instance_created(name):
            MessageHub._instance_dict[name] = cls(name)
        return MessageHub.get_instance(name)

    def update_scalar(self, key: str, value: float | Tensor, count: int = 1, resumed: bool = True) -> None:
        """MMEngine's; a tensor of one element is copied where it is, and read later."""
        if isinstance(value, Tensor) and value.numel() == 1:
            self._set_resumed_keys(key, resumed)
            # a copy, since what it was may be changed in place
            self._waiting.append((key, value.detach().reshape(()).clone(), count))
            if len(self._waiting) >= MOST:
                self._read()
            return
        self._read(key)
        super().update_scalar(key, value, count, resumed)

    def get_scalar(self, key: str) -> HistoryBuffer:
        """MMEngine's; others may go on waiting."""
        self._read(key)
        return self._log_scalars[key] if key in self._log_scalars else super().get_scalar(key)

    @property
    def log_scalars(self) -> dict[str, HistoryBuffer]:
        """All histories, none waiting."""
        self._read()
        return super().log_scalars

    def state_dict(self) -> dict:
        """MMEngine's, none waiting."""
        self._read()
        return super().state_dict()

    def _read(self, key: str | None = None) -> None:
        """Read what waits, if a key does or none is given: one copy for each device and dtype."""
        if key is not None and all(key != waiting for waiting, _, _ in self._waiting):
            return
        waiting, self._waiting = self._waiting, []
        places = defaultdict(list)
        for place, (_, value, _) in enumerate(waiting):
            places[value.device, value.dtype].append(place)
        numbers = dict[int, float]()
        for chosen in places.values():
            together = torch.stack([waiting[place][1] for place in chosen])
            numbers.update(zip(chosen, together.tolist(), strict=True))
        for place, (key, _, count) in enumerate(waiting):
            super().update_scalar(key, numbers[place], count, self._resumed_keys[key])
