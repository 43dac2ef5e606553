import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process

if sys.platform != 'win32':
    import fcntl

NAME = '.training.lock'
CONFIG = 'config '  # begins the line that names the config
HEAD_START = 3  # seconds in which the first process reports the error; a launcher ends all when one ends


def config_name(path: str | Path) -> str:
    """Return a config's folder and file, such as ``mvp/vitb16_in1k.py``."""
    path = Path(path).absolute()
    return f'{path.parent.name}/{path.name}'


def trained_config(work_dir: str | Path) -> str:
    """Return the :func:`config_name` of what was last trained in a work dir; empty if that is not known."""
    try:
        lines = (Path(work_dir) / NAME).read_text(encoding='utf-8').splitlines()
    except (OSError, ValueError):
        return ''
    return next((line.removeprefix(CONFIG) for line in lines if line.startswith(CONFIG)), '')


@contextmanager
def lock_work_dir(work_dir: str | Path, config: str = '') -> Iterator[None]:
    """Lock a work dir for the training of this job; all of its processes call this.

    The system frees POSIX's lock when the process ends, loader workers do not inherit it, and NFS usually
    shares it between machines. Where none can be had, as on a read-only disk, training goes on without. If
    another training holds it, the first process raises ValueError, and the others exit with status 1. The
    lock's file keeps ``config``, for :func:`trained_config`.
    """
    opened, holder = _try_to_lock(Path(work_dir) / NAME, config) if is_main_process() else (None, None)
    told = [holder]
    broadcast_object_list(told)
    if told[0] is not None and not is_main_process():
        time.sleep(HEAD_START)
        raise SystemExit(1)
    if told[0] is not None:
        raise ValueError(
            f'{told[0]} is training in {work_dir}, and two trainings in one work dir overwrite each '
            "other's checkpoints: wait for its end, stop it, or give another --work-dir (mvp-mm: --out)"
        )
    try:
        yield
    finally:
        if opened is not None:
            os.close(opened)


def _try_to_lock(path: Path, config: str) -> tuple[int | None, str | None]:
    """Return the descriptor of the locked file, or who holds it; neither where files cannot be locked."""
    if sys.platform == 'win32':
        return None, None
    opened = None
    try:
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if opened is None:
            return None, None
        holder = os.read(opened, 200).decode(errors='replace').partition('\n')[0] or 'another process'
        os.close(opened)
        return None, holder if error.errno in (errno.EACCES, errno.EAGAIN) else None
    with suppress(OSError):  # a full disk
        os.ftruncate(opened, 0)
        of_config = f'{CONFIG}{config}\n' if config else ''
        os.write(opened, f'process {os.getpid()} on {socket.gethostname()}\n{of_config}'.encode())
    return opened, None
