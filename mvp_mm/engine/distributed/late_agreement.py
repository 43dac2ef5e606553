"""Let processes agree on a number without waiting for one another."""

from datetime import timedelta
from typing import Any

import torch
from mmengine.dist import is_distributed
from torch import distributed
from torch.distributed import ProcessGroup

_OPERATIONS = {
    'max': distributed.ReduceOp.MAX,
    'min': distributed.ReduceOp.MIN,
    'sum': distributed.ReduceOp.SUM,
}
# The default group that the control group was made for, and the control group.
_groups: tuple[ProcessGroup | None, ProcessGroup | None] = (None, None)


def control_group(timeout: float | None = None) -> ProcessGroup:
    """The group of all processes that exchanges what lies on the CPU; made once, by all processes together.

    NCCL takes tensors of GPUs only, and who asks it for a number waits until the GPU has nothing left to do.
    So on GPUs this is a second group, of gloo. Where the default group is gloo's, it is that one.

    Args:
        timeout: Seconds that an exchange may take, where the group is made. Default: torch's.
    """
    global _groups
    default = distributed.group.WORLD
    if _groups[0] is not default:
        group = default
        if distributed.get_backend() != 'gloo':
            limit = None if timeout is None else timedelta(seconds=timeout)
            group = distributed.new_group(backend='gloo', timeout=limit)
        _groups = default, group
    return _groups[1]


def forget_control_group() -> None:
    """Let go of the groups, before they are ended."""
    global _groups
    _groups = None, None


def agree(value: int, operation: str) -> int:
    """Reduce a number over all processes at once.

    Args:
        value: Of this process.
        operation: ``'max'``, ``'min'`` or ``'sum'``.
    """
    if not is_distributed():
        return value
    number = torch.tensor(value)
    distributed.all_reduce(number, _OPERATIONS[operation], group=control_group())
    return int(number)


def gather(value: Any) -> list:
    """The values of all processes, in the order of their ranks."""
    if not is_distributed():
        return [value]
    values = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value, group=control_group())
    return values


class LateAgreement:
    """Reduce a number over all processes in every step, and get it a step later.

    The exchange goes on while the next step is computed. All processes get the same number in the same step.
    One process alone gets its number at once.

    Args:
        operation: ``'max'``, ``'min'`` or ``'sum'``.
    """

    def __init__(self, operation: str) -> None:
        self._operation = _OPERATIONS[operation]
        self._number: torch.Tensor | None = None
        self._work: distributed.Work | None = None

    def exchange(self, value: int) -> int:
        """Give this step's number, and get that of the step before; 0 in the first step.

        Args:
            value: Of this process.
        """
        if not is_distributed():
            return value
        before = self.settle()
        self._number = torch.tensor(value)
        self._work = distributed.all_reduce(
            self._number, self._operation, group=control_group(), async_op=True
        )
        return before

    def settle(self) -> int:
        """Wait for the number that was given last; 0 if none is under way."""
        if self._work is None:
            return 0
        self._work.wait()
        self._work = None
        return int(self._number)
