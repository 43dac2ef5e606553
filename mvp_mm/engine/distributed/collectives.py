"""Exchange small CPU values between all processes, without waiting for the GPU."""

from datetime import timedelta
from typing import Any

import torch
from mmengine.dist import all_gather_object, is_distributed
from torch import distributed
from torch.distributed import ProcessGroup

_OPERATIONS = {name: getattr(distributed.ReduceOp, name.upper()) for name in ('max', 'min', 'sum')}
# The default group for which the control group was made, and the control group.
_groups: tuple[ProcessGroup, ProcessGroup] | None = None


def control_group(timeout: float | None = None) -> ProcessGroup:
    """Return the gloo group of all processes; the first call must be made by all of them.

    NCCL exchanges GPU tensors only, and reading one waits for all queued kernels. So beside NCCL this is a
    second group, with a ``timeout`` in seconds; where the default group is gloo's, it is that one.
    """
    global _groups
    default = distributed.group.WORLD
    assert isinstance(default, ProcessGroup)
    if _groups is None or _groups[0] is not default:
        group: Any = default
        if distributed.get_backend() != 'gloo':
            limit = None if timeout is None else timedelta(seconds=timeout)
            group = distributed.new_group(backend='gloo', timeout=limit)
        _groups = default, group
    return _groups[1]


def forget_control_group() -> None:
    """Drop the references to the groups before they are destroyed."""
    global _groups
    _groups = None


def all_reduce(value: int, operation: str) -> int:
    """Reduce a number over all processes by ``'max'``, ``'min'`` or ``'sum'``."""
    if not is_distributed():
        return value
    number = torch.tensor(value)
    distributed.all_reduce(number, _OPERATIONS[operation], group=control_group())
    return int(number)


def all_gather(value: Any) -> list:
    """Collect a picklable value of every process, in the order of ranks."""
    return all_gather_object(value, control_group()) if is_distributed() else [value]


class DelayedAllReduce:
    """Reduce a number in every step, as :func:`all_reduce`, and return the result one step later.

    The exchange runs while the next step is computed. A single process gets its own number at once.
    """

    def __init__(self, operation: str) -> None:
        self._operation = _OPERATIONS[operation]
        self._pending: tuple[torch.Tensor, distributed.Work] | None = None

    def exchange(self, value: int) -> int:
        """Send this step's number and return the result of the previous step (0 in the first)."""
        if not is_distributed():
            return value
        before = self.settle()
        number = torch.tensor(value)
        work = distributed.all_reduce(number, self._operation, group=control_group(), async_op=True)
        assert work is not None
        self._pending = number, work
        return before

    def settle(self) -> int:
        """Wait for the pending result and return it; 0 if there is none."""
        if self._pending is None:
            return 0
        (number, work), self._pending = self._pending, None
        work.wait()
        return int(number)
