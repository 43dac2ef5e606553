"""How long samples take, in this package's pipeline, mmpretrain's and torchvision's."""

import random
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import mmcv
import numpy as np
import torch
import torchvision
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose, default_collate
from mmengine.hub import get_config
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from torch.utils.data import DataLoader, RandomSampler
from torchvision.transforms import ColorJitter, InterpolationMode, v2
from torchvision.transforms import functional as tvf

from mvp_mm.datasets.samplers.epoch_sampler import EpochSampler
from mvp_mm.datasets.samplers.sample_index import seeded_draws
from mvp_mm.datasets.sources.image_folder import UnlabelledImages
from mvp_mm.datasets.transforms.decode_image import decode_image
from mvp_mm.datasets.transforms.fast_crop import ADJUST, jitter, resize
from mvp_mm.datasets.transforms.pack import channels_first

CHUNK = 10  # images of one variant before the next has its turn
OURS = 'this package'
MMPRETRAIN = 'mmpretrain, BEiT'
MMPRETRAIN_ONE = "mmpretrain, BEiT, without its tokenizer's picture"
TORCHVISION = 'torchvision v2, tensors'
REFERENCE = "this package, reference=True (BEiT's order, Pillow)"
# The config whose pipeline is the peer's.
PEER_CONFIG = 'mmpretrain::beit/beit_beit-base-p16_8xb256-amp-coslr-300e_in1k.py'
Variant = Callable[[int], object]  # of an image's number


@dataclass
class Timing:
    """Seconds an image, one entry a round.

    Args:
        wall: By the clock.
        cpu: Of the process: what is left when other programs take turns on the core.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def ratio(self, other: 'Timing') -> float:
        """How many times the CPU time of another, the median over the rounds."""
        return float(np.median(np.divide(self.cpu, other.cpu)))


def interleaved(variants: dict[str, Variant], count: int, rounds: int) -> dict[str, Timing]:
    """Time variants by turns, a few images each, so that all have the same share of the machine's moods.

    Args:
        variants: By name: a function of an image's number.
        count: Images.
        rounds: Times that every variant sees every image, after one round that does not count.

    Returns:
        By name.
    """
    found = {name: Timing() for name in variants}
    names = list(variants)
    for turn in range(rounds + 1):
        wall, cpu = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        for start in range(0, count, CHUNK):
            random.shuffle(names)
            for name in names:
                variant = variants[name]
                wall_start, cpu_start = time.perf_counter(), time.process_time()
                for number in range(start, min(start + CHUNK, count)):
                    variant(number)
                cpu[name] += time.process_time() - cpu_start
                wall[name] += time.perf_counter() - wall_start
        for name in names:
            if turn:
                found[name].wall.append(wall[name] / count)
                found[name].cpu.append(cpu[name] / count)
    return found


def measure_pipelines(paths: Sequence[str], config: Config, rounds: int = 5) -> dict[str, Timing]:
    """Time whole pipelines: from a file's name to the packed sample.

    Args:
        paths: Image files.
        config: Of pre-training; its ``train_pipeline`` is measured.
        rounds: See :func:`interleaved`. Default 5.

    Returns:
        By name; ours includes what seeds a sample's draws, and the peers have no such thing.
    """
    ours, reference = config.train_pipeline, [dict(step) for step in config.train_pipeline]
    reference[0]['reference'] = True
    peer = peer_pipeline()
    variants = {
        OURS: partial(_seeded, build(ours), paths),
        MMPRETRAIN: partial(_unseeded, build(peer), paths),
        MMPRETRAIN_ONE: partial(_unseeded, build(without_second_picture(peer)), paths),
        TORCHVISION: partial(_unseeded, build([TensorCrop(), *ours[1:]]), paths),
        REFERENCE: partial(_seeded, build(reference), paths),
    }
    return interleaved(variants, len(paths), rounds)


def peer_pipeline() -> list[dict]:
    """The pipeline of mmpretrain's BEiT pre-training."""
    return get_config(PEER_CONFIG).train_pipeline


def without_second_picture(pipeline: Sequence[dict]) -> list[dict]:
    """mmpretrain's pipeline less the smaller picture of the same crop, which only BEiT's tokenizer sees."""
    return [{**step, 'second_size': None} if 'second_size' in step else dict(step) for step in pipeline]


def build(pipeline: Sequence) -> Compose:
    """Transforms of mmpretrain's registry in a row."""
    return Compose([TRANSFORMS.build(dict(step)) if isinstance(step, dict) else step for step in pipeline])


class TensorCrop:
    """The augmentation with torchvision's transforms v2 of tensors, in BEiT's order."""

    def __init__(self) -> None:
        self.transforms = v2.Compose(
            [
                v2.ColorJitter(0.4, 0.4, 0.4),
                v2.RandomHorizontalFlip(0.5),
                v2.RandomResizedCrop(
                    224, (0.08, 1.0), (3 / 4, 4 / 3), InterpolationMode.BICUBIC, antialias=True
                ),
            ]
        )

    def __call__(self, results: dict) -> dict:
        results['img'] = self.transforms(decoded_tensor(results['img_path']))
        return results


def decoded_tensor(path: str) -> torch.Tensor:
    """An image as torchvision reads it: uint8 ``(3, height, width)``."""
    if hasattr(torchvision.io, 'decode_image'):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', DeprecationWarning)  # since 0.29; to be removed
            return torchvision.io.decode_image(path, torchvision.io.ImageReadMode.RGB)
    return torch.from_numpy(decode_image(path, fast=False)).permute(2, 0, 1).contiguous()


def _seeded(pipeline: Compose, paths: Sequence[str], number: int) -> dict:
    with seeded_draws(0, 0, number):
        return pipeline(dict(img_path=paths[number], sample_idx=number))


def _unseeded(pipeline: Compose, paths: Sequence[str], number: int) -> dict:
    return pipeline(dict(img_path=paths[number], sample_idx=number))


def measure_stages(paths: Sequence[str], config: Config, rounds: int = 5) -> dict[str, dict[str, Timing]]:
    """Time the parts of a pipeline: decoding, jitter, crop, mask, packing, seeds.

    Args:
        paths: Image files.
        config: Of pre-training.
        rounds: See :func:`interleaved`. Default 5.

    Returns:
        By stage and variant. Every variant of a stage gets the same input.
    """
    crop, block_mask, _ = build(config.train_pipeline).transforms
    load_peer, jitter_peer, _, crop_peer, mask_peer, _ = build(
        without_second_picture(peer_pipeline())
    ).transforms
    by_pillow = partial(decode_image, fast=False)
    jitter_plain, jitter_tensor = ColorJitter(0.4, 0.4, 0.4), v2.ColorJitter(0.4, 0.4, 0.4)
    images = [decode_image(path) for path in paths]
    pictures = [Image.fromarray(by_pillow(path)) for path in paths]
    tensors = [channels_first(image) for image in images]
    draws = [crop.draw(*image.shape[:2]) for image in images]
    boxes = [draw.box for draw in draws]
    regions = [
        np.ascontiguousarray(image[top : top + rows, left : left + cols])
        for image, (top, left, rows, cols) in zip(images, boxes, strict=True)
    ]
    crops = [resize(region, crop.size) for region in regions]
    size = list(crop.size)

    def jitter_ours(number: int) -> np.ndarray:
        image, (top, left, rows, cols) = images[number], boxes[number]
        return jitter(image[top : top + rows, left : left + cols], image, draws[number].steps)

    def pillow_jitter(number: int) -> object:
        image = pictures[number]
        for step, factor in draws[number].steps:
            image = ADJUST[step](image, factor)
        return image

    def seed(number: int) -> None:
        with seeded_draws(0, 0, number):
            pass

    stages: dict[str, dict[str, Variant]] = {
        'file to pixels': {
            f'{OURS}: simplejpeg': lambda number: decode_image(paths[number]),
            'Pillow': lambda number: by_pillow(paths[number]),
            'mmpretrain: OpenCV': lambda number: load_peer(dict(img_path=paths[number])),
            'torchvision.io': lambda number: decoded_tensor(paths[number]),
        },
        'colour jitter': {
            f'{OURS}: of the box of the crop': jitter_ours,
            'torchvision, Pillow: of the whole image': pillow_jitter,
            'mmpretrain: of the whole image': lambda number: jitter_peer(dict(img=images[number])),
            'torchvision v2, tensors: of the whole image': lambda number: jitter_tensor(tensors[number]),
        },
        'crop to 224, bicubic': {
            f'{OURS}: torch on pixels as they lie': lambda number: resize(regions[number], crop.size),
            'torchvision, Pillow': lambda number: tvf.resized_crop(
                pictures[number], *boxes[number], size, InterpolationMode.BICUBIC
            ),
            'mmpretrain: OpenCV, not antialiased': lambda number: mmcv.imresize(
                regions[number], crop.size, interpolation='bicubic'
            ),
            'torchvision v2, tensors': lambda number: v2.functional.resized_crop(
                tensors[number], *boxes[number], size, InterpolationMode.BICUBIC, antialias=True
            ),
        },
        'draws of jitter, flip and box': {
            f"{OURS}: Python's random": lambda number: crop.draw(*images[number].shape[:2]),
            'torchvision: torch': lambda number: (
                ColorJitter.get_params(jitter_plain.brightness, (0.6, 1.4), (0.6, 1.4), None),
                torch.rand(1),
                v2.RandomResizedCrop(224).make_params([tensors[number]]),
            ),
        },
        'mask': {
            f'{OURS}: BlockwiseMask': lambda number: block_mask(dict()),
            'mmpretrain: BEiTMaskGenerator': lambda number: mask_peer(dict()),
        },
        'pixels to a tensor (3, 224, 224)': {
            f'{OURS}: planes by OpenCV': lambda number: channels_first(crops[number]),
            'mmpretrain: permute and copy': lambda number: (
                torch.from_numpy(crops[number]).permute(2, 0, 1).contiguous()
            ),
        },
        'seeding of a sample': {OURS: seed},
    }
    return {stage: interleaved(variants, len(paths), rounds) for stage, variants in stages.items()}


class PathDataset(BaseDataset):
    """Files in mmpretrain's way: draws from the worker's own random state."""

    def __init__(self, paths: Sequence[str], pipeline: Sequence) -> None:
        self.paths = paths
        super().__init__(pipeline=[*build(pipeline).transforms])

    def load_data_list(self) -> list[dict]:
        return [dict(img_path=path) for path in self.paths]


def measure_loader(
    folder: str, paths: Sequence[str], config: Config, workers: int, epochs: int = 3, batch_size: int = 32
) -> dict[str, list[float]]:
    """Images a second out of a whole loader: workers, collation, and the way between processes.

    Args:
        folder: Of the images.
        paths: Those of its images to read.
        config: Of pre-training.
        workers: Processes.
        epochs: Passes that count; one before them does not.
        batch_size: Default 32.

    Returns:
        By name, one entry an epoch.
    """
    everything = UnlabelledImages(folder)
    numbers = {everything.get_data_info(number)['img_path']: number for number in range(len(everything))}
    own = UnlabelledImages(folder, pipeline=config.train_pipeline, indices=[numbers[path] for path in paths])
    datasets = {OURS: own, MMPRETRAIN: PathDataset(paths, peer_pipeline())}
    loaders = {}
    for name, dataset in datasets.items():
        sampler = EpochSampler(dataset) if name == OURS else RandomSampler(dataset)
        loaders[name] = DataLoader(
            dataset,
            batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=default_collate,
            persistent_workers=workers > 0,
        )
    found: dict[str, list[float]] = {name: [] for name in loaders}
    for epoch in range(epochs + 1):
        for name, loader in loaders.items():
            start = time.perf_counter()
            images = sum(len(batch['data_samples']) for batch in loader)
            if epoch:
                found[name].append(images / (time.perf_counter() - start))
    return found


def speed_report(pipelines: dict[str, Timing], stages: dict[str, dict[str, Timing]]) -> str:
    """Both measurements as Markdown tables.

    Args:
        pipelines: From :func:`measure_pipelines`.
        stages: From :func:`measure_stages`.

    Returns:
        Markdown.
    """
    ours = pipelines[OURS]
    lines = [
        '| pipeline | images/s a core | CPU ms an image | wall ms an image | times ours |',
        '|---|---|---|---|---|',
    ]
    for name, timing in pipelines.items():
        cpu, wall = np.median(timing.cpu), np.median(timing.wall)
        times = '' if name == OURS else f'{timing.ratio(ours):.2f}'
        lines.append(f'| {name} | {1 / cpu:.0f} | {1e3 * cpu:.3f} | {1e3 * wall:.3f} | {times} |')
    lines += ['', '| stage | variant | CPU ms an image | so many times the first |', '|---|---|---|---|']
    for stage, variants in stages.items():
        first = next(iter(variants.values()))
        for name, timing in variants.items():
            times = '' if timing is first else f'{timing.ratio(first):.2f}'
            lines.append(f'| {stage} | {name} | {1e3 * np.median(timing.cpu):.4f} | {times} |')
            stage = ''
    return '\n'.join(lines)


def loader_report(found: dict[str, list[float]], workers: int) -> str:
    """A loader's measurement as a Markdown table."""
    lines = [f'| whole loader, {workers} workers | images/s |', '|---|---|']
    lines += [f'| {name} | {np.median(rates):.0f} |' for name, rates in found.items()]
    return '\n'.join(lines)


def one_thread() -> None:
    """Keep this process to one core's work, as a loader's worker is kept."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def image_paths(folder: str, limit: int | None = None) -> list[str]:
    """The images that pre-training would read of a folder.

    Args:
        folder: With images at any depth.
        limit: Take no more than so many, evenly spread. Default None: all.

    Returns:
        Paths.
    """
    dataset = UnlabelledImages(folder)
    numbers = range(len(dataset))
    if limit is not None and limit < len(dataset):
        numbers = np.linspace(0, len(dataset) - 1, limit).astype(int)
    return [dataset.get_data_info(int(number))['img_path'] for number in numbers]
