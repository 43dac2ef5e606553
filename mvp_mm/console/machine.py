"""What this machine can hold and how many of it there is: batch, loader workers, precision."""

import gc
from collections.abc import Callable

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ..hardware import automatic_precision, has_native_bf16, usable_cores
from ..zoo.complexity import complexity

# On a CPU a step should take seconds: this many multiply-adds forward, which is 8 images of a ViT-B/16 of 224
# pixels (the README's example).
CPU_STEP_FLOPS = 1.5e11


def loader_workers(wanted: int) -> int:
    """Loader workers: as many as the config has, but leave a core for the training."""
    return min(wanted, max(1, usable_cores() - 1))


def precision_in_words(cfg: Config) -> str:
    """What ``precision='auto'`` of the optimiser wrapper comes to here."""
    chosen = cfg.optim_wrapper.get('precision', 'float32')
    if chosen != 'auto':
        return str(chosen)
    return automatic_precision(get_device())


def batch_size(cfg: Config, images: int, step: Callable[[int], None] | None = None) -> int:
    """Images an iteration for a machine: the config's, or half of it as often as need be.

    Args:
        cfg: Config.
        images: How many there are for training; an iteration needs that many.
        step: Tries a training step with a batch and raises ``torch.OutOfMemoryError`` if it does not fit.
            Default None: on a GPU a real one for pre-training; on a CPU, and for all else, none is tried.

    Returns:
        The batch.

    Raises:
        ValueError: If not even one image fits.
    """
    batch = cfg.train_dataloader.batch_size
    most = images
    if not torch.cuda.is_available():
        most = min(most, max(1, int(CPU_STEP_FLOPS // complexity(cfg).flops)))
    elif step is None and 'target_generator' in cfg.model:
        step = pretraining_step(cfg)
    while batch > max(most, 1):
        batch //= 2
    while step is not None:
        try:
            step(batch)
            break
        except torch.OutOfMemoryError:
            if batch == 1:
                raise ValueError('the GPU cannot hold one image: take a smaller student') from None
            batch //= 2
    return batch


def pretraining_step(cfg: Config) -> Callable[[int], None]:
    """A training step of a pre-training config on random images on the GPU, with a random teacher."""

    def step(batch: int) -> None:
        model_cfg = Config(cfg.model.to_dict())
        model_cfg.target_generator.pretrained = None
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model: nn.Module = MODELS.build(model_cfg).cuda().train()
        try:
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
            size = model_cfg.backbone.img_size
            mask = torch.zeros(batch, *model.backbone.window, dtype=torch.bool, device='cuda')
            mask[:, 0] = True
            with torch.autocast('cuda', torch.bfloat16, enabled=has_native_bf16('cuda')):
                loss = model(torch.randn(batch, 3, size, size, device='cuda'), mask=mask, mode='loss')['loss']
            loss.backward()
            optimizer.step()
        finally:
            del model
            gc.collect()
            torch.cuda.empty_cache()

    return step
