"""The proof that no speed was bought with the loss: the fast path's loss curve beside the plain path's."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from torch import Tensor

from mvp_mm.datasets.samplers.sample_index import seeded_draws
from mvp_mm.datasets.scenes import SceneCollection
from mvp_mm.datasets.transforms.block_mask import BlockwiseMask
from mvp_mm.models.backbones.mvp_block import MVPBlock

CONFIGS = Path(__file__).parents[1] / 'configs'
BATCH = 16


def plain_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """The formula as it is written; dropout is 0 in every recipe here."""
    logits = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return (logits if bias is None else logits + bias).softmax(-1) @ value


def plain_bias(table: Tensor, index: Tensor, *_) -> Tensor:
    """Rows of the table by the index, as BEiT's code."""
    return table[index.view(-1)].view(*index.shape, -1).permute(2, 0, 1)


def plain_sum(
    block: MVPBlock, tokens: Tensor, branch: Tensor, gamma: Tensor | None, kept: Tensor | None
) -> Tensor:
    """Layer scale, then stochastic depth, then the sum."""
    branch = branch if gamma is None else gamma * branch
    return tokens + (branch if kept is None else kept * branch)


@contextmanager
def plain_path() -> Iterator[None]:
    """While models are built and run within: no fast path of this package."""
    models = 'mvp_mm.models'
    with (
        patch(f'{models}.backbones.attention.biased_attention', plain_attention),
        patch(f'{models}.backbones.attention.is_available', lambda *args: False),
        patch(f'{models}.backbones.attention._learns_on_cpu', lambda *args: False),
        patch(f'{models}.backbones.patch_embedding._only_projects', lambda projection: False),
        patch(f'{models}.backbones.mvp_block.MVPBlock._add', plain_sum),
        patch(f'{models}.backbones.relative_position.relative_position_bias', plain_bias),
        patch(f'{models}.target_generators.clip._fold_quick_gelu', lambda visual: None),
    ):
        yield


def loss_curve(
    steps: int, plain: bool, seed: int = 0, device: str = 'cpu', precision: str = 'float32'
) -> list[float]:
    """Losses of the tiny student on rendered scenes, taught by the embedded CLIP.

    Args:
        steps: Optimiser steps of 16 scenes, by the recipe's AdamW and clipping.
        plain: By :func:`plain_path`, nothing compiled, and torch's unfused optimiser.
        seed: Of weights, drop path and masks. Default 0.
        device: Where.
        precision: ``'float32'`` (default) or ``'bfloat16'``.

    Returns:
        A loss a step.
    """
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(CONFIGS / 'mvp' / 'vittiny_scenes.py')
    if plain:
        cfg.merge_from_dict(
            {
                'model.backbone.compile_blocks': False,
                'model.target_generator.compile_blocks': False,
                'model.compile_loss': False,
            }
        )
    wrapper = dict(cfg.optim_wrapper, precision=precision)
    wrapper['optimizer'] = dict(wrapper['optimizer'], **({'foreach': False} if plain else {}))
    scenes = SceneCollection('train', BATCH * steps)
    draw = BlockwiseMask(8, 24, min_num_patches=5).draw
    losses = []
    with plain_path() if plain else nullcontext():
        torch.manual_seed(seed)
        model = MODELS.build(cfg.model).to(device).train()
        optimiser = build_optim_wrapper(model, wrapper)
        for step in range(steps):
            images = torch.stack(
                [torch.from_numpy(scenes[i][0]) for i in range(BATCH * step, BATCH * (step + 1))]
            )
            with seeded_draws(seed, step):
                mask = torch.stack([torch.from_numpy(draw()) for _ in range(BATCH)])
            torch.manual_seed(seed + step)  # drop path
            batch = dict(inputs=images.permute(0, 3, 1, 2), mask=mask)
            losses.append(model.train_step(batch, optimiser)['loss'].item())
    return losses


def largest_difference(steps: int = 200) -> tuple[float, list[float], list[float]]:
    """Largest difference of two losses of the same step, and both curves, fast first."""
    fast, plain = loss_curve(steps, plain=False), loss_curve(steps, plain=True)
    return max(abs(a - b) for a, b in zip(fast, plain, strict=True)), fast, plain
