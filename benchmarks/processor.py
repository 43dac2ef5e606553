"""What a measurement was made on."""

import platform
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mmengine
import mmpretrain
import mmseg
import timm
import torch
import torchvision

from mvp_mm.hardware import cpu_instructions, cpu_name, usable_cores
from mvp_mm.version import __version__
from mvp_mm.wording import counted


def describe_machine(device: torch.device) -> list[str]:
    """Lines for a benchmark's file: date, hardware, threads, versions."""
    if device.type == 'cuda':
        properties = torch.cuda.get_device_properties(device)
        hardware = f'{properties.name}, {properties.total_memory / 2**30:.0f} GiB; CUDA {torch.version.cuda}'
    else:
        hardware = f'{cpu_name()}, {usable_cores()} cores ({cpu_instructions()})'
    versions = dict(
        mvp_mm=f'{__version__} ({_commit()})',
        torch=torch.__version__,
        torchvision=torchvision.__version__,
        timm=timm.__version__,
        open_clip=_version('open_clip_torch'),
        mmengine=mmengine.__version__,
        mmpretrain=mmpretrain.__version__,
        mmseg=mmseg.__version__,
        simplejpeg=_version('simplejpeg'),
        pillow=_version('pillow'),
    )
    return [
        f'* Date: {date.today().isoformat()}',
        f'* Hardware: {hardware}; {counted(torch.get_num_threads(), "thread")}',
        f'* System: {platform.system()} {platform.machine()}, Python {platform.python_version()}',
        '* Versions: ' + ', '.join(f'{name} {number}' for name, number in versions.items()),
    ]


def report_heading(title: str, device: torch.device, rounds: int, one_heap: bool) -> list[str]:
    """The first lines of a benchmark's report: title, command, machine, rounds, heap."""
    command = 'Command: `python ' + ' '.join(sys.argv) + '`'
    about = [*describe_machine(device), f'* {counted(rounds, "round")}, variants in turns; medians']
    if device.type == 'cpu':
        keeping = 'all variants' if one_heap else 'only this package, as in its trainings,'
        about.append(f'* Heap: {keeping} kept the memory that a step frees')
    return [f'## {title}', '', command, '', *about, '']


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return 'not there'


def _commit() -> str:
    command = ['git', '-C', str(Path(__file__).parent), 'rev-parse', '--short', 'HEAD']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return 'not a clone'


def measured_matmul_rate(
    device: torch.device, dtype: torch.dtype, side: int | None = None, seconds: float = 1.0
) -> float:
    """Operations a second of one large square matrix product, the best of several.

    Args:
        device: Where.
        dtype: Of both factors.
        side: Rows. Default None: 8192 on CUDA, 2048 on a CPU.
        seconds: How long to try.

    Returns:
        FLOP/s, a multiplication and an addition being two.
    """
    side = side or (8192 if device.type == 'cuda' else 2048)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best, begin = float('inf'), time.perf_counter()
    while time.perf_counter() - begin < seconds or best == float('inf'):
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        left @ right
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
