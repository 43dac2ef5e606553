"""The batch that a machine can train with."""

import gc
from collections.abc import Callable

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from ..hardware import has_native_bf16
from ..zoo.complexity import complexity

# On a CPU a step should take seconds: this many multiply-adds forward, which is 8 images of a ViT-B/16 of 224
# pixels (the README's example).
CPU_STEP_FLOPS = 1.5e11


def batch_size(cfg: Config, images: int, step: Callable[[int], None] | None = None) -> int:
    """Halve the config's batch until this machine can train with it.

    Args:
        cfg: Config.
        images: Number of training images, which the batch does not exceed.
        step: Tries a training step with a batch and raises ``torch.OutOfMemoryError`` if it does not fit.
            Default None: on a GPU a real one for pre-training; on a CPU, and for all else, none is tried.

    Returns:
        Images an iteration.

    Raises:
        ValueError: If not even one image fits.
    """
    batch, most = cfg.train_dataloader.batch_size, images
    if not torch.cuda.is_available():
        most = min(most, int(CPU_STEP_FLOPS // complexity(cfg).flops))
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
    """Build a training step of a pre-training config on random images on the GPU, with a random teacher."""

    def step(batch: int) -> None:
        model_cfg = Config(cfg.model.to_dict())
        model_cfg.target_generator.pretrained = None
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(model_cfg).cuda().train()
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
