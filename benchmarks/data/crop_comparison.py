"""FastCrop beside BEiT's order of work: the same draws pixel by pixel, and own draws by their statistics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import (
    ColorJitter,
    Compose,
    InterpolationMode,
    RandomHorizontalFlip,
    RandomResizedCrop,
)

from mvp_mm.datasets.samplers.sample_index import seeded_draws
from mvp_mm.datasets.transforms.decode_image import decode_image
from mvp_mm.datasets.transforms.fast_crop import FastCrop, fast_crop, reference_crop
from mvp_mm.wording import counted

# Differences of more grey levels than these are counted.
LEVELS = (1, 2, 4, 8)
# Of a crop, float (H, W, 3): what is compared between crops of either kind.
STATISTICS: dict[str, Callable[[np.ndarray], float]] = {
    'mean red': lambda crop: crop[..., 0].mean(),
    'mean green': lambda crop: crop[..., 1].mean(),
    'mean blue': lambda crop: crop[..., 2].mean(),
    'standard deviation red': lambda crop: crop[..., 0].std(),
    'standard deviation green': lambda crop: crop[..., 1].std(),
    'standard deviation blue': lambda crop: crop[..., 2].std(),
    'contrast (standard deviation of grey)': lambda crop: crop.mean(2).std(),
    'saturation (largest less smallest channel)': lambda crop: (crop.max(2) - crop.min(2)).mean(),
    'sharpness (difference of neighbours)': lambda crop: np.abs(np.diff(crop.mean(2), axis=1)).mean(),
    'black or white (share of values 0 and 255)': lambda crop: ((crop == 0) | (crop == 255)).mean(),
}


@dataclass
class CropComparison:
    """What :func:`compare_crops` found.

    Args:
        count: Crops of either kind.
        largest: Largest difference of a value, grey levels, with the same draws.
        mean: Mean absolute difference.
        bias: Mean difference, ours less BEiT's.
        share_above: By number of grey levels: share of values that differ by more.
        worst_crop: Largest mean absolute difference of one crop.
        statistics: By name: mean of ours, mean of BEiT's, both with their own draws, the
            Kolmogorov-Smirnov distance between the two samples, and its p-value.
    """

    count: int
    largest: int
    mean: float
    bias: float
    share_above: dict[int, float]
    worst_crop: float
    statistics: dict[str, tuple[float, float, float, float]]

    def markdown(self) -> str:
        """The findings as two tables."""
        lines = [
            f'With the same draws, {counted(self.count, "crop")}, grey levels:',
            '',
            '| mean absolute difference | of the worst crop | bias | largest | '
            + ' | '.join(f'share above {level}' for level in self.share_above)
            + ' |',
            '|---' * (4 + len(self.share_above)) + '|',
            f'| {self.mean:.3f} | {self.worst_crop:.2f} | {self.bias:+.3f} | {self.largest} | '
            + ' | '.join(f'{share:.4%}' for share in self.share_above.values())
            + ' |',
            '',
            f'With draws of their own, {counted(self.count, "crop")} each:',
            '',
            "| of a crop | FastCrop, mean | BEiT's order, mean | Kolmogorov-Smirnov distance | p |",
            '|---|---|---|---|---|',
        ]
        for name, (ours, theirs, distance, p) in self.statistics.items():
            lines.append(f'| {name} | {ours:.3f} | {theirs:.3f} | {distance:.4f} | {p:.2f} |')
        return '\n'.join(lines)


def compare_crops(
    paths: Sequence[str | Path], rounds: int = 1, size: int = 224, seed: int = 0
) -> CropComparison:
    """Compare crops of photographs.

    Args:
        paths: Image files.
        rounds: Crops of each. Default 1.
        size: Of the crops. Default 224.
        seed: Of the draws. Default 0.

    Returns:
        Differences and statistics.
    """
    fast = FastCrop(size)
    beit = Compose(
        [
            ColorJitter(0.4, 0.4, 0.4),
            RandomHorizontalFlip(0.5),
            RandomResizedCrop(size, (0.08, 1.0), (3 / 4, 4 / 3), InterpolationMode.BICUBIC),
        ]
    )
    counts = np.zeros(511, np.int64)  # of differences -255 ... 255
    worst = 0.0
    found: dict[str, tuple[list, list]] = {name: ([], []) for name in STATISTICS}
    for number, path in enumerate(paths):
        pixels = decode_image(str(path))
        for turn in range(rounds):
            with seeded_draws(seed, turn, number):
                draw = fast.draw(*pixels.shape[:2])
                own_of_beit = np.asarray(beit(Image.fromarray(pixels))).astype(np.float32)
            ours = fast_crop(pixels, fast.size, draw).astype(int)
            difference = ours - reference_crop(pixels, fast.size, draw)
            counts += np.bincount(difference.ravel() + 255, minlength=511)
            worst = max(worst, float(np.abs(difference).mean()))
            for name, statistic in STATISTICS.items():
                found[name][0].append(statistic(ours.astype(np.float32)))
                found[name][1].append(statistic(own_of_beit))
    levels = np.arange(-255, 256)
    shares = counts / counts.sum()
    return CropComparison(
        count=len(paths) * rounds,
        largest=int(np.abs(levels[counts > 0]).max()),
        mean=float(shares @ np.abs(levels)),
        bias=float(shares @ levels),
        share_above={level: float(shares[np.abs(levels) > level].sum()) for level in LEVELS},
        worst_crop=worst,
        statistics={
            name: (float(np.mean(ours)), float(np.mean(theirs)), *map(float, ks_2samp(ours, theirs)))
            for name, (ours, theirs) in found.items()
        },
    )


def write_sheet(paths: Sequence[str | Path], file: str | Path, size: int = 224, seed: int = 0) -> None:
    """Write a picture: a column an image, with FastCrop's crop, BEiT's, and 16 times their difference.

    Args:
        paths: Image files.
        file: To write.
        size: Of the crops. Default 224.
        seed: Of the draws. Default 0.
    """
    fast = FastCrop(size)
    columns = []
    for number, path in enumerate(paths):
        pixels = decode_image(str(path))
        with seeded_draws(seed, 0, number):
            draw = fast.draw(*pixels.shape[:2])
        ours = fast_crop(pixels, fast.size, draw)
        beits = reference_crop(pixels, fast.size, draw)
        difference = np.clip(16 * np.abs(ours.astype(int) - beits), 0, 255).astype(np.uint8)
        columns.append(np.concatenate([ours, beits, difference]))
    Image.fromarray(np.concatenate(columns, axis=1)).save(file)
