"""Data-parallel training: DDP on GPUs and CPUs, gradients in bf16, what FSDP shards."""

import torch
from mmengine.registry import FUNCTIONS
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from ...models.backbones.mvp_block import MVPBlock


def ddp_config(find_unused_parameters: bool = False) -> dict:
    """Return the config of MMEngine's DDP wrapper, for a CPU too."""
    return dict(
        type='MMDistributedDataParallel',
        # the current GPU, which every launcher sets; mpirun sets no LOCAL_RANK
        device_ids=[torch.cuda.current_device()] if torch.cuda.is_available() else None,
        broadcast_buffers=False,
        find_unused_parameters=find_unused_parameters,
        gradient_as_bucket_view=True,
    )


def compress_gradients(model: DistributedDataParallel) -> None:
    """Exchange gradients in bf16; raise ValueError without NCCL, because gloo aborts the process."""
    backend = torch.distributed.get_backend()
    if backend != 'nccl':
        raise ValueError(f'bf16_gradients=True needs GPUs and NCCL, but the backend of this run is {backend}')
    model.register_comm_hook(None, bf16_compress_hook)


@FUNCTIONS.register_module()
def each_block(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """FSDP ``auto_wrap_policy`` that shards each transformer block on its own (arguments are torch's)."""
    return recurse or isinstance(module, MVPBlock)
