"""Bytes that a training step of RILS holds on one of several GPUs, counted on tensors without values."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import finalize

import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from torch import Tensor, distributed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mvp_mm.models.backbones import attention

WHOLE = 10**9  # a chunk that holds all masked patches


class LiveBytes(TorchDispatchMode):
    """Count the bytes of storages that operations make, while they live; ``peak`` is the most at a time.

    Without ``visible`` it counts real tensors. With it, on fake ones, whose values nothing knows, that many
    patches of each image are visible, and all images find their texts: the largest case.
    """

    def __init__(self, visible: int | None = None) -> None:
        super().__init__()
        self.visible, self.now, self.peak = visible, 0, 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.visible is not None and func is torch.ops.aten._local_scalar_dense.default:
            return self.visible
        if (
            self.visible is not None
            and func is torch.ops.aten.index.Tensor
            and args[1][0].dtype == torch.bool
        ):
            source, (mask,) = args
            out = source.new_empty(mask.shape[0] * (mask.shape[1] - self.visible), *source.shape[mask.ndim :])
        else:
            out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return out

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once, from now to its end."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.seen:
            self.seen.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            finalize(storage, self._ended, key, size)

    def _ended(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


@contextmanager
def one_of(processes: int) -> Iterator[None]:
    """Be the first of so many processes, which exchange nothing."""
    distributed.init_process_group('fake', store=FakeStore(), rank=0, world_size=processes)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextmanager
def fused_attention() -> Iterator[None]:
    """Compute attention without bias by torch's fused kernel, as on CUDA, however slow that is on a CPU."""
    length, attention.LONGEST_EXPLICIT = attention.LONGEST_EXPLICIT, 0
    try:
        yield
    finally:
        attention.LONGEST_EXPLICIT = length


def step_bytes(
    config: str, total: int, processes: int, chunk: int | None = None, checkpointing: bool = False
) -> dict[str, int]:
    """Count a training step in bf16 autocast, by the CPU's operators, up to the end of the backward pass.

    Args:
        config: Of RILS.
        total: Pairs of all processes.
        processes: GPUs; each has ``total // processes`` pairs and no shards: DDP.
        chunk: Of the reconstruction loss. Default None: the config's.
        checkpointing: ``backbone.with_cp``. Default False.

    Returns:
        ``state`` (weights, gradients, AdamW's moments), and ``peak`` with it, in bytes.
    """
    model_cfg = Config.fromfile(config).model
    model_cfg.backbone.update(with_cp=checkpointing, compile_blocks=False)
    if chunk is not None:
        model_cfg.reconstruction_loss.chunk = chunk
    with one_of(processes), FakeTensorMode(), LiveBytes(visible=0) as live, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        model = MODELS.build(model_cfg).train()
        for value in model.parameters():
            if value.requires_grad:
                value.grad = torch.empty_like(value)  # DDP's buckets
                live.now += 2 * value.untyped_storage().nbytes()
        (height, width), patch = model.backbone.img_size, model.backbone.patch_size
        grid, pairs = (height // patch, width // patch), total // processes
        state, live.visible = live.now, grid[0] * grid[1] // 4
        images = torch.empty(pairs, 3, height, width)
        mask = torch.empty(pairs, *grid, dtype=torch.bool)
        text = torch.empty(pairs, len(model.text_encoder.positional_embedding), dtype=torch.long)
        with fused_attention():
            with torch.autocast('cpu', torch.bfloat16):
                losses = model.loss(images, mask, text)
            (losses['loss_contrastive'] + losses['loss_reconstruction']).backward()
    return dict(state=state, peak=live.peak)


def memory_table(configs: Sequence[str], total: int, processes: Sequence[int]) -> str:
    """Count the steps of configs on numbers of GPUs, as a Markdown table in GB (10^9 bytes)."""
    lines = [
        '| config | GPUs x pairs | weights, gradients, moments | step | whole matrix | recomputed blocks |',
        '|---|---|---|---|---|---|',
    ]
    for config in configs:
        for number in processes:
            step = step_bytes(config, total, number)
            whole = step_bytes(config, total, number, chunk=WHOLE)
            recomputed = step_bytes(config, total, number, checkpointing=True)
            found = (step['state'], step['peak'], whole['peak'], recomputed['peak'])
            figures = ' | '.join(f'{value / 1e9:.1f}' for value in found)
            lines.append(f'| {Path(config).stem} | {number} x {total // number} | {figures} |')
    return '\n'.join(lines)
