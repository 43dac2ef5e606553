"""Data-parallel training: DDP on GPUs and CPUs, gradients in bf16, what FSDP shards and how it evaluates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.registry import FUNCTIONS
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from ...models.backbones.mvp_block import MVPBlock


def ddp_config(find_unused_parameters: bool = False) -> dict:
    """Return the config of MMEngine's DDP wrapper, for a CPU too."""
    return dict(
        type='MMDistributedDataParallel',
        # the current GPU, which every launcher sets
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


def without_ddp(model: nn.Module) -> nn.Module:
    """Return the module in DDP, whose forward would synchronise buffers in all processes, or the model."""
    return model.module if isinstance(model, DistributedDataParallel) else model


@FUNCTIONS.register_module()
def each_block(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """FSDP ``auto_wrap_policy`` that shards each transformer block on its own (arguments are torch's)."""
    return recurse or isinstance(module, MVPBlock)


@contextmanager
def parameters_gathered(model: nn.Module) -> Iterator[None]:
    """Let evaluators call a sharded model's methods, and its student's: FSDP gathers in ``forward`` only.

    All processes must make the same calls. Other models stay as they are.
    """
    if not isinstance(model, FullyShardedDataParallel):
        yield
        return
    bare: Any = model.module

    def redirected(method: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            if model.training_state.name != 'IDLE':  # within a forward
                return method(*args, **kwargs)
            vars(bare)['forward'] = method
            try:
                return model(*args, **kwargs)
            finally:
                del vars(bare)['forward']

        return call

    places = [
        (vars(owner), name, getattr(owner, name))
        for owner in (bare, getattr(bare, 'backbone', None))
        for name in ('encode_image', 'head_tokens', 'embed_image', 'extract_feat')
        if hasattr(owner, name)
    ]
    for attributes, name, method in places:
        attributes[name] = redirected(method)
    try:
        yield
    finally:
        for attributes, name, _ in places:
            del attributes[name]
