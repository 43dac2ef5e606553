"""How the processes of a job find one another, also after torchrun has started them again."""

import os

from torch.distributed import PrefixStore
from torch.distributed.rendezvous import rendezvous


def addresses_of_attempt() -> dict:
    """Arguments for ``init_process_group``, for a process that torchrun has started.

    torchrun keeps one store of addresses for a job, whatever it restarts: processes that read faster than
    their peers write find the address of one that is gone, and wait for it. So each attempt has names of its
    own in that store.

    Returns:
        ``store``, ``rank`` and ``world_size``; empty for processes that torchrun has not started.
    """
    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT')
    if attempt is None:
        return {}
    store, rank, world_size = next(rendezvous('env://'))
    return dict(store=PrefixStore(f'attempt_{attempt}', store), rank=rank, world_size=world_size)
