"""How the processes of a job find one another, also after torchrun has started them again."""

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from .late_agreement import forget_control_group

# Whether this process ends its group with Python, and whether what it has done last was done by all.
_ends_at_exit = False
_in_step = False


def begin_process_group(launcher: str, dist_cfg: dict | None = None) -> None:
    """Begin what MMEngine would begin otherwise, where it does not do for this job.

    MMEngine asks for a GPU, so that processes on CPUs need this. And torchrun keeps one store of addresses
    for a job, whatever it restarts: processes that read faster than their peers write find the address of one
    that is gone, and wait for it. So each attempt has names of its own in that store.

    Args:
        launcher: Nothing is done for others than ``'pytorch'``.
        dist_cfg: MMEngine's ``env_cfg.dist_cfg``: ``backend`` and ``timeout`` (seconds) on GPUs. On CPUs the
            backend is gloo, whatever it says.
    """
    if launcher != 'pytorch' or distributed.is_initialized():
        return
    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    on_cpu = not torch.cuda.is_available()
    if not on_cpu and attempt == '0':
        return
    arguments: dict = {}
    if attempt != '0':
        store, rank, world_size = next(rendezvous('env://'))
        arguments.update(
            store=distributed.PrefixStore(f'attempt_{attempt}', store), rank=rank, world_size=world_size
        )
    dist_cfg = dist_cfg or {}
    if dist_cfg.get('timeout') is not None:
        arguments['timeout'] = timedelta(seconds=dist_cfg['timeout'])
    if not on_cpu:
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
    distributed.init_process_group('gloo' if on_cpu else dist_cfg.get('backend', 'nccl'), **arguments)
    end_process_group_at_exit()


def end_process_group_at_exit() -> None:
    """End the process group before Python ends, whoever has begun it; more than one call is one.

    One of gloo's threads that is left can abort a process that has done its work, and NCCL warns.
    """
    global _ends_at_exit
    if distributed.is_initialized() and not _ends_at_exit:
        _ends_at_exit = True
        atexit.register(_end_process_group)


@contextmanager
def in_step_with_peers() -> Iterator[None]:
    """Around what all processes do together: after its end each can count on the others, who end it too."""
    global _in_step
    _in_step = False
    try:
        yield
    except SystemExit:  # of StopOnSignalHook, in all processes after the same step
        _in_step = True
        raise
    _in_step = True


def _end_process_group() -> None:
    forget_control_group()
    gc.collect()  # models in cycles, such as a runner's, hold the group
    if not distributed.is_initialized():
        return
    # NCCL's end waits for the others, who may be gone, or wait for this process elsewhere
    if distributed.get_backend() == 'gloo' or _in_step:
        distributed.destroy_process_group()
