"""Keep training when a full or read-only disk stops the logs."""

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

from mmengine.visualization import Visualizer

WRITERS = ('add_config', 'add_graph', 'add_image', 'add_scalar', 'add_scalars', 'close')


def survive_full_disk(logger: logging.Logger, visualizer: Visualizer) -> None:
    """Report once per log that its disk is full or read-only, and train on without that log.

    Args:
        logger: Its files would otherwise print a traceback per line.
        visualizer: Its backends would otherwise end the training.
    """
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = _report_once(handler)  # type: ignore[assignment]
    for backend in getattr(visualizer, '_vis_backends', {}).values():
        for name in WRITERS:
            if hasattr(backend, name):
                setattr(backend, name, _surviving(getattr(backend, name), backend, logger))


def _report_once(handler: logging.FileHandler) -> Callable[[logging.LogRecord], None]:
    original, reported = handler.handleError, False

    def handle_error(record: logging.LogRecord) -> None:
        nonlocal reported
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            original(record)
        elif not reported:
            reported = True
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
                name = type(backend).__name__
                logger.error(f'{name} cannot write ({error}): training goes on without its records')

    return call
