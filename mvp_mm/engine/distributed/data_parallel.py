"""How processes share the gradients of one model."""

import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel


def ddp_config(find_unused_parameters: bool = False) -> dict:
    """MMEngine's DDP, on a CPU too.

    Its buckets are averaged while the rest of the backward pass runs, and are the gradients themselves, not
    copies. The GPU is the one that the launcher's start has made the current one: mpirun sets no LOCAL_RANK.

    Args:
        find_unused_parameters: Default False: every parameter of this package's models takes part.

    Returns:
        A config of a model wrapper.
    """
    return dict(
        type='MMDistributedDataParallel',
        device_ids=[torch.cuda.current_device()] if torch.cuda.is_available() else None,
        broadcast_buffers=False,
        find_unused_parameters=find_unused_parameters,
        gradient_as_bucket_view=True,
    )


def halve_gradients(model: DistributedDataParallel) -> None:
    """Let processes exchange gradients in bf16.

    Raises:
        ValueError: With another backend than NCCL: gloo aborts the process.
    """
    backend = torch.distributed.get_backend()
    if backend != 'nccl':
        raise ValueError(f'bf16_gradients=True needs GPUs and NCCL, and this run exchanges by {backend}')
    model.register_comm_hook(None, bf16_compress_hook)
