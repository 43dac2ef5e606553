"""Stage 15: decoding and cropping on the GPU beside Pillow on the CPU, for the same draws."""

import random
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from ...datasets import EncodedCrop, FastCrop, PackMaskedInputs, collate_encoded
from ...datasets.collate_encoded import split_encoded
from ...engine import DeviceCropPreprocessor
from .measure import CUDA
from .photographs import write_photographs
from .report import Report

MASK = np.zeros((14, 14), bool)


def run(report: Report, scale: str) -> None:
    """Compare crops, then time a batch."""
    full = scale == 'full'
    paths = write_photographs(report.scratch / 'images', 256 if full else 4, 8 if full else 1)
    batch, expected = _batch(paths)
    exact = DeviceCropPreprocessor(224, mean=[0.0] * 3, std=[1.0] * 3).to(CUDA)
    apart = (exact(batch)['inputs'].cpu() - expected.float()).abs()
    report.at_most(
        'crops of the GPU against those of Pillow, mean difference', apart.mean().item(), 0.7, 'of 255'
    )
    of_images = apart.mean((1, 2, 3)).max().item()
    report.add('the same, the worst image', of_images, 'of 255')
    report.add('pixels that differ by more than 8', 100 * (apart > 8).float().mean().item(), '%')
    parts, encoded = split_encoded(batch)
    files = [parts[number] for number in encoded]
    report.add('files that the GPU decodes', len(files), f'of {len(paths)}')
    for name, work in (('decoded', lambda: exact.decode(files)), ('decoded and cut', lambda: exact(batch))):
        report.add(f'{name} on the GPU', len(paths) / _seconds(work, 5 if full else 1), 'images/s')


def _batch(paths: list) -> tuple[dict, torch.Tensor]:
    """What a loader gives, and the crops of the same draws by Pillow in BEiT's order."""
    pack, samples, crops = PackMaskedInputs(), [], []
    for number, path in enumerate(paths):
        for kind in (EncodedCrop(224), FastCrop(224, plain=True)):
            random.seed(number)
            packed = pack(kind(dict(img_path=str(path), sample_idx=number, mask=MASK)))
            if isinstance(kind, EncodedCrop):
                samples.append(packed)
            else:
                crops.append(packed['inputs'])
    return collate_encoded(samples), torch.stack(crops)


def _seconds(work: Callable[[], object], rounds: int) -> float:
    """By the clock: the host's part counts."""
    work()
    seconds = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return median(seconds)
