"""Logs that cannot be written cost their lines, not the training."""

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

from mmengine.visualization import Visualizer

WRITERS = ('add_config', 'add_graph', 'add_image', 'add_scalar', 'add_scalars', 'close')


def survive_full_disk(logger: logging.Logger, visualizer: Visualizer) -> None:
    """Let a full or read-only disk be told once a log, and let training go on without that log.

    Args:
        logger: Whose files would print a traceback for each line.
        visualizer: Whose files of curves would end the training.
    """
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = _told_once(handler)
    for backend in getattr(visualizer, '_vis_backends', {}).values():
        for name in WRITERS:
            if hasattr(backend, name):
                setattr(backend, name, _surviving(getattr(backend, name), backend, logger))


def _told_once(handler: logging.FileHandler) -> Callable[[logging.LogRecord], None]:
    original, told = handler.handleError, False

    def handle_error(record: logging.LogRecord) -> None:
        nonlocal told
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            original(record)
        elif not told:
            told = True
            print(
                f'The log {handler.baseFilename} cannot be written ({error}): what follows is missing in it',
                file=sys.stderr,
            )

    return handle_error


def _surviving(method: Callable, backend: Any, logger: logging.Logger) -> Callable:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except OSError as error:
            if not getattr(backend, 'cannot_be_written', False):
                backend.cannot_be_written = True
                logger.error(
                    f'{type(backend).__name__} cannot write ({error}): training goes on without its records'
                )
            return None

    return call
