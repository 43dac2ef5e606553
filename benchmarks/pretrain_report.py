"""Run the comparison of pre-training steps and write it down."""

import gc
from collections.abc import Callable, Sequence
from functools import partial

import torch

from .gemm_floor import gemm_floor, step_gemms
from .interleaved import Phases, Timing, phase_shares, tell, time_interleaved
from .malloc_policy import MallocPolicy
from .pretrain_variants import PEERS, WIDTHS, ThisPackage, TrainingStep, teacher_variants
from .processor import measured_matmul_rate, report_heading

DATA_SHEET_H100 = 989e12  # dense bf16 FLOP/s of an H100 or H200 SXM, NVIDIA's data sheet


def benchmark_pretrain(
    device: torch.device,
    batch: int,
    arch: str,
    dtype: torch.dtype,
    rounds: int,
    peers: Sequence[str],
    compiled: bool = False,
    one_heap: bool = False,
) -> str:
    """Measure, and describe in Markdown.

    Args:
        device: Where.
        batch: Images.
        arch: ``'base'`` or ``'large'``; peers are at base size only.
        dtype: bf16 or float32.
        rounds: Rounds that count.
        peers: Names in ``PEERS``.
        compiled: Also this package compiled, which CUDA has by default.
        one_heap: All variants keep the memory that they free, not this package's alone.

    Returns:
        The report.
    """
    classes: dict[str, type[TrainingStep]] = {'mvp_mm': ThisPackage}
    classes |= {name: PEERS[name] for name in peers if arch == 'base' or name != 'beitv2'}
    if compiled:
        classes['compiled'] = PEERS['compiled']
    steps, memory = {}, {}
    for name, made in classes.items():
        steps[name], memory[name] = with_peak_memory(partial(made, batch, device, dtype, arch), device)
    flops = {name: step.flops for name, step in steps.items()}
    gemms = step_gemms(batch, WIDTHS[arch])
    work = dict(steps, floor=gemm_floor(gemms, device, dtype))
    rate = measured_matmul_rate(device, dtype)
    keeping = [name for name, made in classes.items() if one_heap or made.keeps_freed_memory]
    prepare = MallocPolicy(device, keeping, indifferent=['floor'])
    timings = time_interleaved(work, rounds, device, warmup=2, told=tell, prepare=prepare)
    prepare('mvp_mm')  # the heap of this package's trainings
    shares = _shares(steps['mvp_mm'], device)
    del steps['mvp_mm'], work
    gc.collect()
    what = f'ViT-{arch[0].upper()}/16, {str(dtype)[6:]}, batch {batch}, {device.type}'
    lines = report_heading(f'Pre-training step, {what}', device, rounds, one_heap)
    lines += _table(classes, timings, memory, flops, batch)
    done = sum(gemm.flops for gemm in gemms)
    lines += ['', *_utilisation(timings, done, rate, device)]
    told = ', '.join(f'{name} {share:.1%}' for name, share in shares.items())
    lines += [f'* Where its step goes: {told}']
    teachers = time_interleaved(teacher_variants(batch, device, dtype), rounds, device, warmup=2)
    ratio = teachers['mvp_mm'].ratio_to(teachers['open_clip'])
    lines += [
        f'* Teacher alone: {batch / teachers["mvp_mm"].median:.1f} images/s, {ratio:.2f} times '
        f"open_clip's own with {str(dtype)[6:]} weights"
    ]
    return '\n'.join(lines) + '\n'


def with_peak_memory(
    build: Callable[[], TrainingStep], device: torch.device
) -> tuple[TrainingStep, float | None]:
    """Build a variant and measure all the memory that it needs.

    That is everything the variant puts on the device beside what lay there before: weights, teacher,
    optimiser state, activations, gradients.

    Args:
        build: Makes the variant.
        device: Where.

    Returns:
        The variant, and GiB on CUDA, None elsewhere.
    """
    if device.type != 'cuda':
        return build(), None
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    step = build()
    for _ in range(2):  # the optimiser makes its state
        step()
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return step, (torch.cuda.max_memory_allocated(device) - before) / 2**30


def _shares(step: ThisPackage, device: torch.device) -> dict[str, float]:
    phases = Phases(device)
    for _ in range(4):
        step.timed(phases)
    return phase_shares(phases)


def _table(classes, timings, memory, flops, batch) -> list[str]:
    head = '| variant | s a step | images/s | ratio | ratio by FLOPs | share of the products | peak memory |'
    lines = [head, '|---' * 7 + '|']
    ours, floor = timings['mvp_mm'], timings['floor']
    for name, made in classes.items():
        timing: Timing = timings[name]
        ratio = ours.ratio_to(timing)
        by_flops = ratio * flops['mvp_mm'] / flops[name]
        share = f'{timing.ratio_to(floor):.2f}' if flops[name] == flops['mvp_mm'] else ''
        used = '' if memory[name] is None else f'{memory[name]:.1f} GiB'
        lines.append(
            f'| {made.says} | {timing.median:.3f} | {batch / timing.median:.2f} | {ratio:.2f} | '
            f'{by_flops:.2f} | {share} | {used} |'
        )
    lines.append(f'| bare matrix products | {floor.median:.3f} | {batch / floor.median:.2f} | | | | |')
    return ['Ratio: how many times as fast this package is.', '', *lines]


def _utilisation(timings, flops: int, rate: float, device: torch.device) -> list[str]:
    done = flops / timings['mvp_mm'].median
    lines = [
        f'* Model FLOPs (teacher forward + 3 x student forward): {flops / 1e12:.2f} TFLOP a step, '
        f'{done / 1e12:.2f} TFLOP/s: {done / rate:.0%} of a large matrix product here '
        f'({rate / 1e12:.2f} TFLOP/s)'
    ]
    if device.type == 'cuda':
        lines[0] += f'; {done / DATA_SHEET_H100:.0%} of 989 TFLOP/s'
    return lines
