"""How long a device takes to decode a batch's files and to cut its crops."""

from collections.abc import Sequence

import torch
from mmengine.config import Config

from ...datasets.collate_encoded import collate_encoded, split_encoded
from ...engine import DeviceCropPreprocessor
from ..interleaved import time_interleaved
from .loader_speed import build, encoded, seeded


def device_crops_report(
    paths: Sequence[str], config: Config, device: torch.device, rounds: int, batch: int = 256
) -> str:
    """Measure :class:`DeviceCropPreprocessor` on one batch.

    Args:
        paths: JPEG files; repeated until they fill a batch.
        config: Of pre-training.
        device: Where.
        rounds: Rounds that count.
        batch: Images. Default 256.

    Returns:
        A Markdown table.
    """
    paths = [paths[number % len(paths)] for number in range(batch)]
    pipeline = build(encoded(config.train_pipeline))
    loaded = collate_encoded([seeded(pipeline, paths, number) for number in range(batch)])
    preprocessor = DeviceCropPreprocessor(pipeline.transforms[0].size).to(device)
    parts, encoded_ones = split_encoded(loaded)
    files = [parts[number] for number in encoded_ones]
    ways = {
        'decoded and cut': lambda: preprocessor(loaded),
        'decoded alone': lambda: preprocessor.decode(files),
    }
    timings = time_interleaved(ways, rounds, device)
    lines = [f'| on {device.type}, a batch of {batch} | images/s | ms an image |', '|---|---|---|']
    for name, timing in timings.items():
        lines.append(f'| {name} | {batch / timing.median:.0f} | {1e3 * timing.median / batch:.3f} |')
    return '\n'.join(lines)
