"""Read patch tokens off the vision towers of open_clip, by what a tower has and not by its name.

Shape legend: B batch, (h, w) patch grid, C width of the tower, D of its embedding. ``space='joint'`` is after
the projection, ``'hidden'`` before it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..backbones.patch_embedding import embed_patches
from .base import Grid
from .cleaned_tokens import cleaned_block
from .timm_tokens import TimmTokens

POOLS = 'pools its patch tokens by attention, so none of them lives in the joint space'


class ViTTokens:
    """Tokens of open_clip's own vision transformers."""

    can_resize = True

    def __init__(self, visual: Any) -> None:
        height, width = visual.patch_size
        if height != width:
            raise ValueError(f'has patches of {visual.patch_size} pixels: expected squares')
        self.patch_size, self.image_size = height, tuple(visual.image_size)
        self.no_joint = '' if getattr(visual, 'attn_pool', None) is None else POOLS
        self.has_cls = True
        self.choices = ['none', 'token'] if self.no_joint else ['token', 'pooled', 'none']
        if visual.pool_type == 'avg':
            self.choices = ['pooled', 'none']

    def encode(
        self,
        visual: Any,
        images: Tensor,
        grid: Grid,
        space: str,
        cls: str,
        variant: str = 'last',
        clean_cls: bool = True,
    ) -> Tensor:
        """Return the target of CLS, unless ``cls`` is ``'none'``, and the tokens of patches."""
        tokens = self._hidden(visual, images, grid, variant, clean_cls)
        tokens = tokens[:, 1:] if cls == 'none' else tokens
        return tokens @ visual.proj if space == 'joint' else tokens

    def _hidden(self, visual: Any, images: Tensor, grid: Grid, variant: str, clean_cls: bool) -> Tensor:
        tokens = embed_patches(images, visual.conv1).flatten(1, 2)
        cls = visual.class_embedding.to(tokens.dtype).expand(len(tokens), 1, -1)
        tokens = visual.ln_pre(torch.cat([cls, tokens], dim=1) + resized_positions(visual, grid))
        if self.no_joint:  # the final norm is the pooler's
            return visual.transformer(tokens)
        if variant == 'last':
            return _normed(visual, visual.transformer(tokens))
        *blocks, last = visual.transformer.resblocks
        for block in blocks:
            tokens = block(tokens)
        cleaned = _normed(visual, cleaned_block(last, tokens, grid, variant))
        if clean_cls:
            return cleaned
        return torch.cat([_normed(visual, last(tokens))[:, :1], cleaned[:, 1:]], dim=1)


class ResNetTokens:
    """The last map of CLIP's ResNets, whose attention pooling makes the embedding."""

    can_resize, has_cls, no_joint, choices, patch_size = True, False, POOLS, ['none'], 32

    def __init__(self, visual: Any) -> None:
        size = visual.image_size
        self.image_size = (size, size) if isinstance(size, int) else tuple(size)

    def encode(self, visual: Any, images: Tensor, grid: Grid, space: str, cls: str, *_: Any) -> Tensor:
        """Return the tokens of patches."""
        maps = visual.stem(images)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            maps = layer(maps)
        return maps.flatten(2).transpose(1, 2)


class TrunkTokens:
    """Tokens of a timm network that open_clip puts a projection on.

    The joint embedding of a patch is what the tower makes of that patch alone; where the tower takes the mean
    of its patches, and only there, that is the space of the image embedding.
    """

    def __init__(self, visual: Any) -> None:
        trunk = visual.trunk
        self.reader = reader = TimmTokens.of(trunk, visual.image_size)
        self.patch_size, self.image_size = reader.patch_size, reader.image_size
        self.can_resize, self.has_cls = reader.can_resize, reader.has_cls
        in_head = getattr(visual.head, 'pool', None) is not None
        by_attention = in_head or getattr(trunk, 'attn_pool', None) is not None
        self.no_joint = POOLS if by_attention else ''
        fits = reader.pooled_width == reader.width and not in_head
        if reader.has_cls and getattr(trunk, 'global_pool', '') == 'token':
            choices = ['token']
        else:
            choices = ['pooled'] if fits or not by_attention else []
            choices += ['token'] if reader.has_cls and by_attention else []
        self.choices = ['none', *choices] if by_attention and not fits else [*choices, 'none']

    def encode(self, visual: Any, images: Tensor, grid: Grid, space: str, cls: str, *_: Any) -> Tensor:
        """Return the target of CLS, unless ``cls`` is ``'none'``, and the tokens of patches."""
        trunk, reader = visual.trunk, self.reader
        if space == 'hidden':
            return reader.encode(trunk, images, cls)
        _, tokens = reader.read(trunk, images)
        patches = tokens[:, reader.prefix :]
        if cls != 'none':
            extra = tokens[:, :1] if cls == 'token' else patches.mean(1, keepdim=True)
            patches = torch.cat([extra, patches], dim=1)
        if reader.layout == 'tokens' and hasattr(trunk, 'fc_norm'):
            return visual.head(trunk.head(trunk.fc_norm(patches)))
        alone = trunk.forward_head(reader.alone(patches.flatten(0, 1)))
        return visual.head(alone).unflatten(0, patches.shape[:2])


CLIPTokens = ViTTokens | ResNetTokens | TrunkTokens


def clip_tokens(visual: Any) -> CLIPTokens:
    """Return the reader of a vision tower; ValueError says why there is none."""
    if hasattr(visual, 'trunk'):
        return TrunkTokens(visual)
    if hasattr(visual, 'class_embedding'):
        return ViTTokens(visual)
    if hasattr(visual, 'attnpool') and hasattr(visual, 'layer4'):
        return ResNetTokens(visual)
    raise ValueError(f'has no patch tokens (its vision branch is a {type(visual).__name__})')


def layers_of(visual: Any) -> list:
    """Return the repeated layers of a vision tower; a ResNet has none that are worth compiling alone."""
    if hasattr(visual, 'trunk'):
        return list(getattr(visual.trunk, 'blocks', []))
    return list(visual.transformer.resblocks) if hasattr(visual, 'transformer') else []


def resized_positions(visual: Any, grid: Grid) -> Tensor:
    """Return position embeddings ``(1 + h * w, C)``, resized bicubically to another grid than their own."""
    positions, own_grid = visual.positional_embedding, tuple(visual.grid_size)
    if grid == own_grid:
        return positions
    patches = positions[1:].float().T.unflatten(1, own_grid)[None]
    patches = F.interpolate(patches, grid, mode='bicubic', antialias=True)[0].flatten(1).T
    return torch.cat([positions[:1], patches.to(positions.dtype)])


def _normed(visual: Any, tokens: Tensor) -> Tensor:
    if visual.pool_type != 'avg':
        return visual.ln_post(tokens)
    if visual.final_ln_after_pool:
        return visual.ln_post(_mean_first(tokens))
    return _mean_first(visual.ln_post(tokens))


def _mean_first(tokens: Tensor) -> Tensor:
    return torch.cat([tokens[:, 1:].mean(1, keepdim=True), tokens[:, 1:]], dim=1)
