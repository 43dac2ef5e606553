"""How many cores a process may use where several share a machine."""

import os
import socket
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmengine.dist import get_rank, get_world_size, is_distributed

from .late_agreement import gather


@dataclass(frozen=True)
class Cores:
    """What a process sees of its machine.

    Attributes:
        host: The machine's name.
        numbers: The cores that the process may run on.
        quota: Cores' worth of time that its container may use, or None if any.
    """

    host: str
    numbers: frozenset[int]
    quota: float | None = None


def core_share() -> int:
    """Cores for this process alone, at least 1; called by all processes together the first time.

    Launchers differ: torchrun lets every process of a machine run on all cores, Slurm and mpirun mostly bind
    each to its own. So the processes compare what they see, whoever has started them. Under Slurm no process
    takes more than its ``--cpus-per-task``.
    """
    return _shared(get_world_size())


@cache
def _shared(processes: int) -> int:
    share = fair_share(gather(_seen()), get_rank())
    if not is_distributed():  # torchrun without --launcher pytorch
        share //= int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    elif 'SLURM_PROCID' in os.environ and 'LOCAL_WORLD_SIZE' not in os.environ:
        share = min(share, int(os.environ.get('SLURM_CPUS_PER_TASK', share)))
    return max(1, share)


def fair_share(cores: list[Cores], rank: int) -> int:
    """A process's part of the cores that it sees.

    Args:
        cores: What each process sees.
        rank: Of the process.

    Returns:
        Number of cores: one that n processes of the machine may run on counts as 1/n.
    """
    mine = cores[rank]
    beside = [other for other in cores if other.host == mine.host]
    users = Counter(number for other in beside for number in other.numbers)
    share = sum(1 / users[number] for number in mine.numbers)
    if mine.quota is not None:
        share = min(share, mine.quota / len(beside))
    return int(share + 1e-6)


def _seen() -> Cores:
    has_affinity = hasattr(os, 'sched_getaffinity')
    numbers = os.sched_getaffinity(0) if has_affinity else range(os.cpu_count() or 1)
    return Cores(socket.gethostname(), frozenset(numbers), cpu_quota())


def cpu_quota(root: Path = Path('/sys/fs/cgroup')) -> float | None:
    """Cores' worth of time that the container may use, or None without a limit.

    Args:
        root: Where control groups are mounted.
    """
    try:
        if (root / 'cpu.max').is_file():  # version 2
            quota, period = (root / 'cpu.max').read_text().split()
        else:
            quota, period = ((root / f'cpu/cpu.cfs_{name}_us').read_text() for name in ('quota', 'period'))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # no limits of this kind here, or 'max'
        return None
