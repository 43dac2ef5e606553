"""One training at a time in a work dir, because a second one would overwrite the first one's checkpoints."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = '.training.lock'
HEAD_START = 3  # seconds for the first process to say why the job ends


@contextmanager
def lock_work_dir(work_dir: str | Path) -> Iterator[None]:
    """Hold a work dir for the training of this job; called by all of its processes.

    The first process locks ``.training.lock`` in it. The lock is POSIX's, which the operating system
    frees when the process ends, however it ends, and which loader workers do not inherit; it counts on other
    machines where the file system shares locks (NFS does as a rule). Where a lock cannot be had at all, such
    as on a read-only disk, training goes on without one.

    Args:
        work_dir: Folder of the checkpoints.

    Raises:
        ValueError: In the first process, if another training holds it. The others end with status 1.
    """
    held: list = [None, None]  # the open file, and who has it
    if is_main_process():
        held = list(_try_to_lock(Path(work_dir) / NAME))
    holder = [held[1]]
    broadcast_object_list(holder)
    if holder[0] is not None:
        if not is_main_process():
            time.sleep(HEAD_START)  # a launcher ends all processes when one has ended
            raise SystemExit(1)
        raise ValueError(
            f'{holder[0]} is training in {work_dir}, and two trainings in one work dir overwrite each '
            "other's checkpoints: wait for its end, stop it, or give another --work-dir (mvp-mm: --out)"
        )
    try:
        yield
    finally:
        if held[0] is not None:
            os.close(held[0])


def _try_to_lock(path: Path) -> tuple[int | None, str | None]:
    """The descriptor of the locked file, or who holds it; neither where files cannot be locked."""
    if fcntl is None:
        return None, None
    try:
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        return None, None
    try:
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = None
        if error.errno in (errno.EACCES, errno.EAGAIN):
            holder = os.read(opened, 200).decode(errors='replace').strip() or 'another process'
        os.close(opened)
        return None, holder
    with suppress(OSError):  # of a full disk, which training survives
        os.ftruncate(opened, 0)
        os.write(opened, f'process {os.getpid()} on {socket.gethostname()}\n'.encode())
    return opened, None
