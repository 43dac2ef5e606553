"""Stage 1: what this machine is, and which kernels its attention takes."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch
from torch.nn import functional as F

from mvp_mm.hardware import usable_cores
from mvp_mm.models.backbones.attention import aligned
from mvp_mm.models.compilation import can_compile

from .measure import BF16, CUDA, kernels
from .report import Report

PACKAGES = (
    'triton',
    'torchvision',
    'timm',
    'open_clip_torch',
    'onedl-mmengine',
    'onedl-mmcv',
    'onedl-mmpretrain',
    'onedl-mmsegmentation',
    'mmengine',
    'mmcv',
    'mmpretrain',
    'mmsegmentation',
    'simplejpeg',
)


def run(report: Report, scale: str) -> None:
    """Tell versions, card and kernels."""
    properties = torch.cuda.get_device_properties(0)
    report.add('card', properties.name)
    report.add('memory', properties.total_memory / 2**30, 'GiB')
    report.add('multiprocessors', properties.multi_processor_count)
    report.add('driver', _driver())
    report.add('torch', torch.__version__)
    report.add('CUDA', str(torch.version.cuda))
    report.add('cuDNN', str(torch.backends.cudnn.version()))
    for name in PACKAGES:
        if found := _version(name):
            report.add(name, found)
    report.add('Python', platform.python_version())
    report.add('cores', usable_cores())
    report.add('torch.compile has what it needs', can_compile(), '', 'True', can_compile())
    batch = 64 if scale == 'full' else 2
    shape = (batch, 12, 197, 64)
    for name, dtype, biased in (
        ('SDPA: bf16, no bias, no gradient', BF16, False),
        ('SDPA: bf16, bias, gradient', BF16, True),
        ('SDPA: float32, bias, gradient', torch.float32, True),
    ):
        try:
            found = kernels(_attention(shape, dtype, biased))
        except Exception as error:  # this stage must not fail for the profiler's sake
            report.add(name, f'{type(error).__name__}: {error}')
            continue
        chosen = [f'{key[:100]} ({ms:.3f} ms)' for key, _, ms in found if _is_attention(key)]
        report.add(name, '; '.join(chosen) or '; '.join(key[:60] for key, *_ in found[:4]) or 'none was seen')


def _attention(shape: tuple[int, ...], dtype: torch.dtype, biased: bool):
    batch, heads, length, _ = shape
    tensors = [torch.randn(shape, device=CUDA, dtype=dtype, requires_grad=biased) for _ in range(3)]
    bias = torch.randn(heads, length, length, device=CUDA, requires_grad=biased)

    def work() -> None:
        if not biased:
            with torch.no_grad():
                F.scaled_dot_product_attention(*tensors)
            return
        mask = aligned(bias.to(dtype)).expand(batch, -1, -1, -1)
        F.scaled_dot_product_attention(*tensors, mask).sum().backward()

    work()
    return work


def _is_attention(name: str) -> bool:
    words = ('fmha', 'attention', 'flash', 'cudnn', 'sdpa', 'softmax')
    return any(word in name.lower() for word in words)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _driver() -> str:
    command = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return 'unknown'
