"""Find the images that training could not read, before it begins."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from mmcv.transforms import LoadAnnotations
from mmcv.transforms import LoadImageFromFile as LoadByMMCV
from mmengine.dataset import BaseDataset
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm

from ...hardware import usable_cores
from ..transforms.check_label_map import CheckLabelMap
from ..transforms.decode_image import ALPHA_MODES, UNREADABLE, UnreadableImageError, decode_image
from ..transforms.load_image_from_file import LoadImageFromFile

# Pipeline steps that read files, or check what was read.
LOADING = (LoadByMMCV, LoadImageFromFile, LoadAnnotations, CheckLabelMap)
# What is odd about an image, and what decode_image does with it.
ODDITIES = {
    'animated': 'the first frame is read',
    'CMYK': 'converted to RGB',
    'more than 8 bits': 'scaled to 8 bits',
    'alpha': "put on ImageNet's mean colour",
    'not the format of its name': 'read as what it is',
    'huge': 'read, and slow to read; twice as many pixels would be refused',
}


class CheckedSample(NamedTuple):
    """Result for one sample."""

    path: str  # of its image, or of whichever of its files is bad
    fault: str | None = None  # why training cannot read it
    oddities: tuple[str, ...] = ()  # names in ODDITIES


def check_image(path: str, content: bytes | None = None) -> CheckedSample:
    """Read an image file, or its bytes, as pre-training does."""
    return read_checked(path, content)[0]


def read_checked(path: str, content: bytes | None = None) -> tuple[CheckedSample, np.ndarray | None]:
    """As :func:`check_image`, with the pixels ``(height, width, 3)`` if the image can be read."""
    source = path if content is None else content
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            pixels = decode_image(source, key=path)
        is_huge = any(issubclass(warning.category, Image.DecompressionBombWarning) for warning in caught)
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            return CheckedSample(path, oddities=_oddities(image, path, is_huge)), pixels
    except UnreadableImageError as error:
        return CheckedSample(path, _one_line(error.reason)), None
    except UNREADABLE as error:  # gone in between
        return CheckedSample(path, f'{type(error).__name__}: {_one_line(error)}'), None


def _oddities(image: Image.Image, path: str, is_huge: bool) -> tuple[str, ...]:
    format_of_name = Image.registered_extensions().get(os.path.splitext(path)[1].lower())
    is_stereo = image.format == 'MPO'  # a JPEG with a second view, as cameras and telephones write it
    tests = {
        'animated': getattr(image, 'is_animated', False) and not is_stereo,
        'CMYK': image.mode == 'CMYK',
        'more than 8 bits': image.mode.startswith('I') or image.mode == 'F',
        'alpha': image.mode in ALPHA_MODES or 'transparency' in image.info,
        'not the format of its name': format_of_name not in (image.format, 'JPEG' if is_stereo else None),
        'huge': is_huge,
    }
    return tuple(name for name, is_so in tests.items() if is_so)


def check_dataset(
    dataset: BaseDataset, workers: int | None = None, progress: bool = False
) -> list[CheckedSample]:
    """Read every sample of a dataset as training does, without augmentation; one result per sample, in order.

    Images have to pass :func:`check_image`, which is stricter than some loaders (OpenCV fills what is missing
    of a truncated JPEG with grey), and then the loading steps of the dataset's own pipeline. ``workers`` is
    the number of processes, by default one per core.
    """
    if len(dataset) and ('img' in (first := dataset.get_data_info(0)) or 'img_path' not in first):
        raise ValueError(f'{type(dataset).__name__} reads no image files: there is nothing to check')
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    loading = [step for step in steps if isinstance(step, LOADING)]
    checked = map_in_workers(partial(_check_sample, dataset, loading), range(len(dataset)), workers)
    return list(tqdm(checked, 'Reading', len(dataset), leave=False, disable=not progress))


def _check_sample(dataset: BaseDataset, loading: Sequence[Callable], index: int) -> CheckedSample:
    info = dataset.get_data_info(index)
    found = check_image(info['img_path'], info.get('img_bytes'))
    if found.fault is not None:
        return found
    try:
        for step in loading:
            info = step(info)
    except Exception as error:  # of any library's loader, on any file
        return CheckedSample(info.get('seg_map_path') or info['img_path'], _one_line(error))
    return found


def map_in_workers(function: Callable, items: Any, workers: int | None = None, chunk: int = 16) -> Iterator:
    """Yield a function's result for each item of a sequence, in order, by processes: default one a core."""
    workers = min(workers or usable_cores(), len(items))
    collate = partial(_results, function)
    loader = DataLoader(items, chunk, collate_fn=collate, num_workers=workers if workers > 1 else 0)
    return chain.from_iterable(loader)


def _results(function: Callable, items: Sequence) -> list:
    return list(map(function, items))


def _one_line(error: Exception | str) -> str:
    return ' '.join(str(error).split()) or type(error).__name__
