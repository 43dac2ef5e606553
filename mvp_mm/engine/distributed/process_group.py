"""Start the process group, also after torchrun has restarted the job, and end it with Python."""

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from .collectives import forget_control_group

# Whether the group is destroyed at exit, and whether all processes completed the last collective section.
_ends_at_exit = False
_in_step = False


def begin_process_group(launcher: str, dist_cfg: dict | None = None) -> None:
    """Initialise the group of torchrun's processes where MMEngine's own initialisation would fail.

    MMEngine requires a GPU, and of mpirun a ``LOCAL_RANK`` that it does not set. And torchrun keeps its
    address store when it restarts a job: each attempt's prefix hides the addresses of peers that are gone.
    """
    if launcher == 'mpi':  # MMEngine's wrappers read what every other launcher sets
        os.environ.setdefault('LOCAL_RANK', os.environ['OMPI_COMM_WORLD_LOCAL_RANK'])
    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    has_gpu = torch.cuda.is_available()
    if launcher != 'pytorch' or distributed.is_initialized() or (has_gpu and attempt == '0'):
        return
    dist_cfg, backend = dist_cfg or {}, 'gloo'
    arguments: dict = {}
    if attempt != '0':
        store, rank, world_size = next(rendezvous('env://'))
        store = distributed.PrefixStore(f'attempt_{attempt}', store)
        arguments = dict(store=store, rank=rank, world_size=world_size)
    if dist_cfg.get('timeout') is not None:
        arguments['timeout'] = timedelta(seconds=dist_cfg['timeout'])
    if has_gpu:
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
        backend = dist_cfg.get('backend', 'nccl')
    distributed.init_process_group(backend, **arguments)
    end_process_group_at_exit()


def end_process_group_at_exit() -> None:
    """Destroy the process group before Python ends: a gloo thread can abort a process, and NCCL warns."""
    global _ends_at_exit
    if distributed.is_initialized() and not _ends_at_exit:
        _ends_at_exit = True
        atexit.register(_end_process_group)


@contextmanager
def in_step_with_peers() -> Iterator[None]:
    """Mark a section that all processes run, and complete or leave together."""
    global _in_step
    _in_step = False
    try:
        yield
    except SystemExit:  # StopOnSignalHook's, raised by all processes after the same step
        _in_step = True
        raise
    _in_step = True


def _end_process_group() -> None:
    forget_control_group()
    gc.collect()  # reference cycles, such as the runner's, hold the group
    if not distributed.is_initialized():
        return
    # destroying an NCCL group waits for peers, which may be gone or wait elsewhere
    if distributed.get_backend() == 'gloo' or _in_step:
        distributed.destroy_process_group()
