"""Open images by what lies at a place: a folder, a list, or shards."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from .caption_lists import ENDINGS
from .image_folder import UnlabelledImages
from .image_text_list import ImageTextList
from .image_text_shards import ImageTextShards
from .shard_files import is_remote


def open_images(place: str) -> tuple[Any, dict[str, Any]]:
    """Return the dataset of a place without a pipeline, and the arguments that name the place.

    A folder, or its sub-folder ``train``, is read as shards if it holds ``.tar`` files and no image.

    Args:
        place: Folder, list of images with or without captions, or shards: a folder, a ``.tar``, a pattern or
            an address.

    Raises:
        FileNotFoundError: If there is no such place, or no image in it.
        ValueError: If no place is named, or a list cannot be read.
    """
    if not place.strip():
        raise ValueError("'' names no folder: give the folder of the images, or . for the current one")
    path, options = Path(place).expanduser(), dict[str, Any](data_root=place)
    kind: Any = UnlabelledImages
    if is_remote(place) or path.suffix == '.tar' or set(place) & set('*?{') and not path.exists():
        kind = ImageTextShards
    elif path.is_dir():
        if any(next(folder.glob('*.tar'), None) for folder in (path, path / 'train')):
            with suppress(FileNotFoundError):
                return UnlabelledImages(**options), options
            kind = ImageTextShards
    elif not path.is_file():
        raise FileNotFoundError(f'there is no folder, list or shard {place}')
    elif path.suffix.lower() in ENDINGS:
        kind = ImageTextList
    else:
        options = dict(data_root=str(path.parent), ann_file=place)
    return kind(**options), options
