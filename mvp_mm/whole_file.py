"""Files that get their name when they are whole: a killed process leaves the old file, or none."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def whole_file(path: Path, advice: str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; flush it and rename it on exit, or delete it after a failure.

    Raises:
        OSError: If the disk is full; ``advice`` says what to do.
    """
    temporary = path.with_name(f'.{path.name}.{socket.gethostname()}-{os.getpid()}.partial')
    try:
        yield temporary
        with temporary.open('rb') as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in FULL:
            raise OSError(error.errno, f'the disk is full while writing {path}: {advice}') from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
