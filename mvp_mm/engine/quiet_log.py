"""What a command shows of MMEngine's log: warnings and errors, in words. All else goes to the log's files."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmengine.logging import MMLogger

from ..stack import is_no_stack_noise


def to_stderr(text: str, level: int) -> None:
    """Print a line beside what the command prints."""
    print(text, file=sys.stderr)


@contextmanager
def quiet_log(say: Callable[[str, int], None] = to_stderr) -> Iterator[None]:
    """In a ``with`` block, call ``say`` with text and level of each warning and error, once each."""
    shown: set[str] = set()

    def handle(logger: MMLogger, record: logging.LogRecord) -> None:
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler) and record.levelno >= handler.level:
                handler.handle(record)
        text = f'{record.levelname}: {record.getMessage()}'
        if record.levelno >= logging.WARNING and is_no_stack_noise(record) and text not in shown:
            shown.add(text)
            say(text, record.levelno)

    kept = MMLogger.callHandlers
    MMLogger.callHandlers = handle
    try:
        yield
    finally:
        MMLogger.callHandlers = kept
