"""Which file was it that could not be read."""

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from ..transforms.load_rgb_image import UNREADABLE, UnreadableImageError


@contextmanager
def unreadable_files_named(*paths: str) -> Iterator[None]:
    """If a block fails and one of its image files cannot be decoded, say which file and what to do.

    The loaders of mmcv fail without the file's name, in a way that depends on the kind of damage. Here the
    files are only looked at again after a failure, so that it costs nothing where all is well.

    Args:
        paths: The files that the block reads.

    Raises:
        UnreadableImageError: If one of them is the cause; else what the block raised.
    """
    try:
        yield
    except UnreadableImageError:
        raise
    except Exception as error:
        for path in paths:
            try:
                with Image.open(path) as image:
                    image.load()
            except UNREADABLE as reason:
                raise UnreadableImageError(
                    f'{path} cannot be read ({type(reason).__name__}: {reason}): replace the file, or '
                    'delete it'
                ) from error
        raise
