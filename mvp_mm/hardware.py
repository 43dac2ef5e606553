"""Facts of the machine: native bf16, cores, memory, processor.

torch is imported in the functions, because the set-up scripts ask for cores before it is installed.
"""

import os
import platform
import socket
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CGROUPS = Path('/sys/fs/cgroup')


def has_native_bf16(device: 'torch.device | str | None' = None) -> bool:
    """Whether a device (default: the one training would use) has instructions for bf16 matrix products.

    Without them torch silently emulates bf16: on a CPU with AVX2 only, a product takes about twenty times as
    long as in float32; plain AVX-512 gains nothing.
    """
    import torch
    from mmengine.device import get_device

    kind = torch.device(device or get_device()).type
    if kind == 'cuda':
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == 'cpu' and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    """Ask oneDNN, which obeys ``ONEDNN_MAX_CPU_ISA``, and on x86 the CPU's flags.

    oneDNN also says yes to plain AVX-512, where it converts every factor.
    """
    import torch

    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    if platform.machine().lower() not in ('x86_64', 'amd64'):
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def fast_precision(device: 'torch.device | str | None' = None) -> str:
    """Return the faster of ``'bfloat16'`` and ``'float32'`` on a device."""
    return 'bfloat16' if has_native_bf16(device) else 'float32'


def automatic_precision(device: 'torch.device | str') -> str:
    """Return what ``precision='auto'`` means: on any CPU float32, so that results do not depend on it."""
    return 'float32' if str(device) == 'cpu' else fast_precision(device)


@dataclass(frozen=True)
class Cores:
    """What a process may use: core numbers of a host, and its container's quota in cores (None: no limit)."""

    host: str
    numbers: frozenset[int]
    quota: float | None = None


def seen_cores() -> Cores:
    """Read this process's affinity and its container's quota."""
    has_affinity = hasattr(os, 'sched_getaffinity')
    numbers = os.sched_getaffinity(0) if has_affinity else range(os.cpu_count() or 1)
    return Cores(socket.gethostname(), frozenset(numbers), cpu_quota())


def usable_cores() -> int:
    """Return the number of cores that this process may use, whoever else uses them; at least 1."""
    return max(1, fair_share([seen_cores()], 0))


def core_share() -> int:
    """Return the number of cores for this process alone, at least 1; first called by all processes together.

    torchrun lets every process run on all cores of its machine, Slurm and mpirun mostly bind each to its own,
    so the processes compare what they see. Under Slurm none takes more than its ``--cpus-per-task``.
    """
    from mmengine.dist import get_world_size

    return _shared(get_world_size())


@cache
def _shared(processes: int) -> int:
    from mmengine.dist import all_gather_object, get_rank, is_distributed

    share = fair_share(all_gather_object(seen_cores()), get_rank())
    if not is_distributed():  # torchrun without --launcher pytorch
        share //= int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    elif 'SLURM_PROCID' in os.environ and 'LOCAL_WORLD_SIZE' not in os.environ:
        share = min(share, int(os.environ.get('SLURM_CPUS_PER_TASK', share)))
    return max(1, share)


def fair_share(cores: list[Cores], rank: int) -> int:
    """Return how many cores a rank gets: a core that n processes of its host may use counts as 1/n."""
    mine = cores[rank]
    beside = [other for other in cores if other.host == mine.host]
    users = Counter(number for other in beside for number in other.numbers)
    share = sum(1 / users[number] for number in mine.numbers)
    if mine.quota is not None:
        share = min(share, mine.quota / len(beside))
    return int(share + 1e-6)


def cpu_quota(root: Path = CGROUPS) -> float | None:
    """Return the container's limit in cores, by the control groups below ``root``; None without a limit."""
    try:
        if (root / 'cpu.max').is_file():  # version 2
            quota, period = (root / 'cpu.max').read_text().split()
        else:
            quota, period = ((root / f'cpu/cpu.cfs_{name}_us').read_text() for name in ('quota', 'period'))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # no limits of this kind here, or 'max'
        return None


def usable_memory(root: Path = CGROUPS) -> int:
    """Return the bytes of memory that this process may use: the machine's, or its container's limit."""
    limits = [os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')]
    for name in ('memory.max', 'memory/memory.limit_in_bytes'):
        try:
            limits.append(int((root / name).read_text()))
        except (OSError, ValueError):  # another version, or 'max'
            continue
    return min(limits)


def cpu_name() -> str:
    """Return the processor's name."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if os.access(info, os.R_OK) else []
    names = (line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    return next(names, platform.processor() or 'unknown CPU')


def cpu_instructions() -> str:
    """Return torch's widest instructions and whether bf16 is native, such as ``'AVX2, no native bf16'``."""
    import torch

    bf16 = 'native bf16' if _cpu_has_bf16() else 'no native bf16'
    return f'{torch.backends.cpu.get_cpu_capability()}, {bf16}'
