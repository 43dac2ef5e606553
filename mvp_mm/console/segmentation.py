"""Segment images with a trained model and draw the result over them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.progress import track

from ..engine import existing_checkpoint, load_config
from ..evaluation.picture_files import image_files, picture_files, usable_device
from ..evaluation.segment import load_segmentor, segment_image
from ..visualization import draw_overlay, save_overlay


def segment(
    images: Iterable[str | Path] = (),
    *old_arguments: Any,
    config: str = '',
    checkpoint: str = '',
    out: str | Path = '.',
    opacity: float = 0.55,
    device: str | None = None,
    **old_options: Any,
) -> list[Path]:
    """Segment images and draw the classes over them, with a legend.

    Args:
        images: Image files, and folders of images.
        config: Segmentation config.
        checkpoint: Its checkpoint.
        out: Folder for the pictures.
        opacity: Of the colours, 0 to 1.
        device: Default None: a GPU if there is one.

    Returns:
        The pictures, one for each image.

    Raises:
        FileNotFoundError: If there is no such image, config or checkpoint.
        ValueError: If a value makes no sense, or the config is of no segmentation.
        TypeError: If called with the arguments of 0.1, where this function trained.
    """
    if old_arguments or old_options:
        raise TypeError(
            'mvp_mm.segment takes images, config=, checkpoint= and out=, and predicts. '
            "To train: mvp_mm.finetune(data, out, checkpoint, task='segmentation', classes=[...])"
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f'--opacity {opacity:g}: expected a number from 0 to 1')
    files = image_files([Path(path) for path in images])
    pictures = picture_files(files, Path(out))
    device = device and usable_device(device)
    if 'decode_head' not in load_config(config).model:
        raise ValueError(f'{config} is no segmentation config: take one of configs/upernet')
    model: Any = load_segmentor(config, existing_checkpoint(checkpoint), device)
    classes, palette = model.dataset_meta['classes'], model.dataset_meta['palette']
    for path, picture in track(list(zip(files, pictures, strict=True)), description='Segmenting'):
        image, labels = segment_image(model, path)
        save_overlay(draw_overlay(image, labels, classes, palette, opacity), picture)
    return pictures
