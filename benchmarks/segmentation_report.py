"""Run the comparison of segmentors and write it down."""

import torch

from .interleaved import tell, time_interleaved
from .malloc_policy import MallocPolicy
from .processor import report_heading
from .segmentation_variants import Segmentor

VARIANTS = {'this package': True, "mmseg's BEiT": False}


def benchmark_segmentation(
    device: torch.device, batch: int, dtype: torch.dtype, rounds: int, one_heap: bool = False
) -> str:
    """Measure a training step and a sliding-window inference, and describe them in Markdown.

    Args:
        device: Where.
        batch: Images a training step.
        dtype: bf16 or float32.
        rounds: Rounds that count.
        one_heap: Both keep the memory that they free, not this package's alone.

    Returns:
        The report.

    Raises:
        ValueError: If there is one image.
    """
    if batch < 2:
        raise ValueError('--batch 1: a training step of UperNet needs two images, for batch normalisation')
    segmentors = {name: Segmentor(batch, device, dtype, ours) for name, ours in VARIANTS.items()}
    steps = {name: segmentor.train_step for name, segmentor in segmentors.items()}
    ours = next(iter(VARIANTS))
    prepare = MallocPolicy(device, keeping=VARIANTS if one_heap else [ours])
    training = time_interleaved(steps, rounds, device, told=tell, prepare=prepare)
    windows = {name: segmentor.slide for name, segmentor in segmentors.items()}
    inference = time_interleaved(windows, rounds, device, told=tell, prepare=prepare)
    title = f'UperNet, ViT-B/16, 512 pixels, {str(dtype)[6:]}, {device.type}'
    lines = report_heading(title, device, rounds, one_heap)
    lines += [
        f'| | training step of {batch}, s | ratio | one image of 512x683, s | ratio |',
        '|---' * 5 + '|',
    ]
    for name in VARIANTS:
        lines.append(
            f'| {name} | {training[name].median:.2f} | {training[ours].ratio_to(training[name]):.2f} | '
            f'{inference[name].median:.2f} | {inference[ours].ratio_to(inference[name]):.2f} |'
        )
    lines += ['', 'Ratio: how many times as fast this package is.']
    return '\n'.join(lines) + '\n'
