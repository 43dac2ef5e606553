import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

from mmengine.visualization import Visualizer

WRITERS = ('add_config', 'add_graph', 'add_image', 'add_scalar', 'add_scalars', 'close')


def survive_full_disk(logger: logging.Logger, visualizer: Visualizer) -> None:
    """Report once per log that its disk is full or read-only, and train on without that log."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            original = handler.handleError
            handler.handleError = functools.partial(_handle_error, handler, original)  # type: ignore[method-assign]
    for backend in getattr(visualizer, '_vis_backends', {}).values():
        for name in WRITERS:
            if hasattr(backend, name):
                setattr(backend, name, _surviving(getattr(backend, name), backend, logger))


def _handle_error(handler: Any, original: Callable, record: logging.LogRecord) -> None:
    error = sys.exc_info()[1]
    if not isinstance(error, OSError):
        original(record)
    elif _is_first(handler):
        print(f'The log {handler.baseFilename} cannot be written ({error}) and is cut off', file=sys.stderr)


def _surviving(method: Callable, backend: Any, logger: logging.Logger) -> Callable:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except OSError as error:
            if _is_first(backend):
                name = type(backend).__name__
                logger.error(f'{name} cannot write ({error}): training goes on without its records')

    return call


def _is_first(writer: Any) -> bool:
    """Whether this failure of a writer is its first."""
    first = not getattr(writer, 'cannot_be_written', False)
    writer.cannot_be_written = True
    return first
