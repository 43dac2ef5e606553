"""Segment images with a trained model, or by names alone, and draw the result over them."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.device import get_device
from rich.progress import track

from ..datasets.transforms.decode_image import UnreadableImageError, decode_image
from ..engine import existing_checkpoint
from ..evaluation.picture_files import image_files, picture_files, usable_device
from ..evaluation.segment import load_segmentor, segment_image
from ..models.speaking.text_tower import require_classes
from ..text.class_names import DATASETS, names_in
from ..visualization import class_colours, draw_overlay, save_overlay
from ..wording import counted
from ..zoo import get_model, list_models

# From a file to its image, RGB uint8 (H, W, 3), and the class of every pixel, int64 (H, W).
Segmenter = Callable[[Path], tuple[np.ndarray, np.ndarray]]
Names = str | Sequence[str | Sequence[str]]


def segment(
    images: str | Path | Iterable[str | Path] = (),
    *old_arguments: Any,
    config: str | None = None,
    checkpoint: str | None = None,
    out: str | Path = '.',
    opacity: float = 0.55,
    device: str | None = None,
    prompts: Names | None = None,
    model: str | None = None,
    teacher: str | None = None,
    **old_options: Any,
) -> list[Path]:
    """Segment images and draw the classes over them, with a legend.

    Either a segmentation model does (``config``, ``checkpoint``), or a model that speaks (``prompts``, and
    ``checkpoint`` or ``model``), without any fine-tuning.

    Args:
        images: An image file or a folder of images, or several.
        config: Segmentation config.
        checkpoint: Its checkpoint; with ``prompts`` a pre-training checkpoint, published or exported file.
        out: Folder for the pictures.
        opacity: Of the colours, 0 to 1.
        device: Default None: a GPU if there is one.
        prompts: Names of the classes: text with commas between classes and ``|`` between names of one, a
            dataset of :func:`~mvp_mm.text.class_names.class_names`, or a list as for
            :meth:`.Speaks.segment_by_text`.
        model: With ``prompts``: a name of :func:`~mvp_mm.list_models` that has weights, not ``checkpoint``.
        teacher: With ``prompts``: the weight file of the teacher, if it is no longer where it was.

    Returns:
        The pictures, one for each image.

    Raises:
        FileNotFoundError: If there is no such image, config or checkpoint.
        UnreadableImageError: If an image is damaged, after all others are drawn.
        ValueError: If a value makes no sense, the config is of no segmentation, or the model cannot speak.
        TypeError: If called with the arguments of 0.1, where this function trained.
    """
    if old_arguments or old_options:
        raise TypeError(
            'mvp_mm.segment takes images, config=, checkpoint= and out=, and predicts. '
            "To train: mvp_mm.finetune(data, out, checkpoint, task='segmentation', classes=[...])"
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f'--opacity {opacity:g}: expected a number from 0 to 1')
    images = [images] if isinstance(images, str | Path) else images
    files = image_files([Path(path) for path in images])
    pictures = picture_files(files, Path(out))
    device = usable_device(device) if device else get_device()
    if prompts is not None:
        if config is not None:
            raise ValueError('--prompts are the classes, and --config has its own: give one of them')
        if (checkpoint is None) == (model is None):
            raise ValueError('--prompts needs --checkpoint FILE or --model NAME, one of them')
        segmenter, classes, palette = _by_names(prompts, checkpoint, model, teacher, device)
    else:
        if config is None or checkpoint is None or model is not None or teacher is not None:
            raise ValueError(
                'give --config and --checkpoint of a segmentation model, or --prompts "sky,road,car" with '
                '--checkpoint (and --teacher) or --model of a pre-trained one'
            )
        segmentor: Any = load_segmentor(config, existing_checkpoint(checkpoint), device)
        segmenter = partial(segment_image, segmentor)
        classes, palette = segmentor.dataset_meta['classes'], segmentor.dataset_meta['palette']
    unreadable = []
    for path, picture in track(list(zip(files, pictures, strict=True)), description='Segmenting'):
        try:
            image, labels = segmenter(path)
        except UnreadableImageError as error:
            unreadable.append(str(error))
            continue
        save_overlay(draw_overlay(image, labels, classes, palette, opacity), picture)
    if unreadable:
        done = f'{len(files) - len(unreadable)} of {counted(len(files), "image")} segmented, in {out}'
        raise UnreadableImageError(f'{done}; {"; ".join(unreadable)}')
    return pictures


def _by_names(
    prompts: Names, checkpoint: str | None, model: str | None, teacher: str | None, device: str
) -> tuple[Segmenter, list[str], list[list[int]]]:
    dataset = prompts if isinstance(prompts, str) and prompts in DATASETS else None
    names = require_classes(names_in(prompts) if isinstance(prompts, str) else prompts)
    colours = class_colours(len(names), dataset)
    if dataset and ['background'] in names:  # what has no look of its own is not asked for
        colours.pop(names.index(['background']))
        names.remove(['background'])
    place = checkpoint if model is None else model
    assert place is not None
    is_name = model is not None or (not Path(place).is_file() and place in list_models())
    options = dict(teacher=teacher) if teacher else {}
    speaking: Any = get_model(place if is_name else existing_checkpoint(place), is_name, **options)
    if not hasattr(speaking, 'segment_by_text'):
        raise ValueError(f'{place} cannot speak: it is no student of a CLIP; mvp-mm models lists the models')
    speaking.to(device)

    def segment_by_names(path: Path) -> tuple[np.ndarray, np.ndarray]:
        image = decode_image(str(path))
        return image, speaking.segment_by_text(image, names).numpy()

    return segment_by_names, [group[0] for group in names], colours
