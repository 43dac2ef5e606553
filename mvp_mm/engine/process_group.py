"""How the processes of a job find one another, also after torchrun has started them again."""

import atexit
import gc
import os
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from .late_agreement import forget_control_group


def begin_process_group(launcher: str, dist_cfg: dict | None = None) -> None:
    """Begin what MMEngine would begin otherwise, where it does not do for this job.

    MMEngine asks for a GPU, so that processes on CPUs need this. And torchrun keeps one store of addresses
    for a job, whatever it restarts: processes that read faster than their peers write find the address of one
    that is gone, and wait for it. So each attempt has names of its own in that store. On CPUs the group
    is ended before Python is, and with it gloo's threads: one that is left can abort a process that has done
    its work.

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
    if on_cpu:
        atexit.register(_end_process_group)


def _end_process_group() -> None:
    forget_control_group()
    gc.collect()  # models in cycles, such as a runner's, hold the group
    if distributed.is_initialized():
        distributed.destroy_process_group()
