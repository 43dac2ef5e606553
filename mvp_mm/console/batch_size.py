"""The batch that a machine can train with."""

import gc
from collections.abc import Callable

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, DefaultScope

from ..engine.config_check.walk import dicts
from ..hardware import automatic_precision
from ..zoo.complexity import complexity

# Multiply-adds forward of a step that takes seconds on a CPU: 8 images of a ViT-B/16 of 224 pixels.
CPU_STEP_FLOPS = 1.5e11


def batch_size(cfg: Config, images: int, step: Callable[[Config, int], None] | None = None) -> int:
    """Return a config's batch, halved until it is no more than the images and this machine can train with it.

    ``step`` tries a training step with a batch and raises ``torch.OutOfMemoryError`` if it does not fit.
    Default None: :func:`pretraining_step` on a GPU and for pre-training; for all else none is tried.
    ValueError if not even one image fits.
    """
    batch, most = cfg.train_dataloader.batch_size, images
    if not torch.cuda.is_available():
        most = min(most, int(CPU_STEP_FLOPS // complexity(cfg).flops))
    elif step is None and 'target_generator' in cfg.model:
        step = pretraining_step
    normed = any(part.get('type') in ('BN', 'SyncBN') for _, part in dicts('model', cfg.model))
    least = 2 if normed else 1  # of one map of one value batch normalisation has no statistics
    while batch > max(most, least):
        batch = max(batch // 2, least)
    while step is not None:
        try:
            step(cfg, batch)
            break
        except torch.OutOfMemoryError:
            if batch <= least:
                raise ValueError(f'the GPU cannot hold a batch of {batch}: take a smaller student') from None
            batch //= 2
    return batch


def pretraining_step(cfg: Config, batch: int) -> None:
    """Train a pre-training config's model for one step on random images, by a random teacher."""
    device = get_device()
    model_cfg = Config(cfg.model.to_dict())
    generator = model_cfg.target_generator
    for teacher in generator.get('teachers', {'': generator}).values():
        teacher.pretrained = None
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(model_cfg).to(device).train()
    try:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
        images = torch.randn(batch, 3, *model.backbone.img_size, device=device)
        grid = (-(-side // model.backbone.patch_size) for side in model.backbone.img_size)
        mask = torch.zeros(batch, *grid, dtype=torch.bool, device=device)
        mask[:, 0] = True
        with torch.autocast(device, torch.bfloat16, enabled=automatic_precision(device) == 'bfloat16'):
            loss = model(images, mask=mask, mode='loss')['loss']
        loss.backward()
        optimizer.step()
    finally:
        del model
        gc.collect()
        torch.cuda.empty_cache()
