"""How the stages measure a GPU: by its own events, medians, random data."""

import gc
import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor

from ..gemm_floor import step_gemms
from ..interleaved import Timing
from ..pretrain_report import with_peak_memory
from ..pretrain_variants import WIDTHS, TrainingStep

CUDA = torch.device('cuda')
BF16 = torch.bfloat16


def event_seconds(work: Callable[[], object], rounds: int = 20, warmup: int = 3) -> float:
    """Median seconds that the GPU takes for a piece of work, many queued after one another.

    Args:
        work: Queues it.
        rounds: That count.
        warmup: Before.

    Returns:
        Seconds.
    """
    for _ in range(warmup):
        work()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]
    torch.cuda.synchronize()
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize()
    return median(a.elapsed_time(b) / 1e3 for a, b in zip(marks, marks[1:], strict=False))


def take_turns(
    works: dict[str, Callable[[], object]], rounds: int, steps: int = 2, warmup: int = 1
) -> dict[str, Timing]:
    """Time pieces of work turn by turn, each as if it ran alone for long.

    In its turn a variant runs once without being timed, so that what is queued before the timed steps is its
    own.

    Args:
        works: By name.
        rounds: Turns of each; the order turns by one each round.
        steps: Timed in a turn.
        warmup: Runs of each before the first round.

    Returns:
        Seconds a step, an entry a round.
    """
    timings = {name: Timing() for name in works}
    for work in works.values():
        for _ in range(warmup):
            work()
    names = list(works)
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            torch.cuda.synchronize()
            works[name]()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(steps):
                works[name]()
            end.record()
            torch.cuda.synchronize()
            timings[name].seconds.append(max(start.elapsed_time(end), 1e-6) / 1e3 / steps)
    return timings


def product_rate(scale: str) -> float:
    """FLOP/s of a bf16 product of two random 8192² matrices."""
    side = 8192 if scale == 'full' else 256
    left, right = (torch.randn(side, side, device=CUDA, dtype=BF16) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * side**3 / max(event_seconds(lambda: torch.mm(left, right, out=out), 30, 10), 1e-9)


def copy_rate(scale: str) -> float:
    """Bytes/s of a copy within the GPU's memory, read and written."""
    size = 2**30 if scale == 'full' else 2**20
    source = torch.randint(0, 255, (size,), device=CUDA, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / max(event_seconds(lambda: target.copy_(source), 20, 5), 1e-9)


def utilisation(batch: int, seconds: float, rate: float) -> float:
    """Percent of a measured rate that the matrix products of a step reach."""
    flops = sum(gemm.flops for gemm in step_gemms(batch, WIDTHS['base']))
    return 100 * flops / max(seconds, 1e-9) / rate


def build(made: type[TrainingStep], batch: int) -> tuple[TrainingStep, float, float]:
    """A variant in bf16 after three steps.

    Returns:
        The variant, the GiB that it needs at its peak, and the seconds of building and three steps: the first
        includes what is compiled.
    """
    start = time.perf_counter()
    step, peak = with_peak_memory(partial(made, batch, CUDA, BF16), CUDA)
    torch.cuda.synchronize()
    return step, peak, time.perf_counter() - start


def free() -> None:
    """Give back what nothing holds any more."""
    gc.collect()
    torch.cuda.empty_cache()


def synchronisations(work: Callable[[], object]) -> list[str]:
    """Where a piece of work waits for the GPU: a ``file:line`` for each time."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode('default')
    found = [w for w in caught if 'synchronizing CUDA operation' in str(w.message)]
    return ['/'.join(w.filename.rsplit('/', 2)[-2:]) + f':{w.lineno}' for w in found]


def kernels(work: Callable[[], object], steps: int = 1) -> list[tuple[str, int, float]]:
    """Kernels that a piece of work runs.

    Returns:
        Name, calls, and milliseconds a step; the longest first.
    """
    with torch.profiler.profile(activities=torch.profiler.supported_activities()) as profile:
        for _ in range(steps):
            work()
        torch.cuda.synchronize()
    found = [
        (event.key, event.count // steps, event.self_device_time_total / 1e3 / steps)
        for event in profile.key_averages()
        if event.device_type == torch.autograd.DeviceType.CUDA and event.self_device_time_total > 0
    ]
    return sorted(found, key=lambda kernel: -kernel[2])


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference, over the norm of what is expected."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))


def cosine(left: Tensor, right: Tensor) -> float:
    """Of two tensors as vectors."""
    left, right = (tensor.detach().flatten().double().cpu() for tensor in (left, right))
    return float(left @ right / (left.norm() * right.norm()).clamp(min=1e-30))


def warm_compiler() -> None:
    """Let torch's compiler begin its workers now, while other things are done."""
    from torch._inductor.async_compile import AsyncCompile

    AsyncCompile.use_process_pool()
