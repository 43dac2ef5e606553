"""Time each idea beside what it replaced, and write it down."""

import torch

from .ideas import IDEAS, Setting
from .interleaved import tell, time_interleaved
from .malloc_policy import MallocPolicy
from .processor import report_heading


def benchmark_ideas(device: torch.device, batch: int, dtype: torch.dtype, rounds: int) -> str:
    """Measure, and describe in Markdown. On a CPU all variants keep the memory that they free.

    Args:
        device: Where.
        batch: Images.
        dtype: Of activations.
        rounds: Rounds that count.

    Returns:
        The report.
    """
    setting = Setting(device, dtype, batch)
    title = f'Single ideas at the sizes of ViT-B/16, {str(dtype)[6:]}, batch {batch}, {device.type}'
    lines = report_heading(title, device, rounds, one_heap=True)
    lines += ['| of | variant | ms | times as long |', '|---' * 4 + '|']
    for idea, made in IDEAS.items():
        tell(idea)
        variants = made(setting)
        prepare = MallocPolicy(device, keeping=variants)
        timings = time_interleaved(variants, rounds, device, warmup=2, prepare=prepare)
        ours = next(iter(timings.values()))
        for number, (name, timing) in enumerate(timings.items()):
            times = f'{ours.ratio_to(timing):.2f}' if number else ''
            lines.append(f'| {idea} | {name} | {timing.median * 1e3:.2f} | {times} |')
    lines += [
        '',
        'The others are compared with the first of each; docs/performance.md says what the package uses.',
    ]
    return '\n'.join(lines) + '\n'
