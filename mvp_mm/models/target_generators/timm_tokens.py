"""Read a map of tokens off any timm network, by what the network can do and not by its name.

Shape legend: B batch, P prefix tokens (CLS, registers), (h, w) map, C width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...weights.fit_positions import times
from .base import Grid, choose_cls, network_errors, random_image


@dataclass(frozen=True)
class TimmTokens:
    """How to read the last map of tokens of a timm network.

    Attributes:
        layout: What ``forward_features`` returns: ``'tokens'`` ``(B, P + h * w, C)``; a map, ``'NCHW'`` or
            ``'NHWC'``; or something ``'other'``, whose map ``forward_intermediates`` tells.
        prefix: Number P of tokens before those of patches.
        width: C.
        patch_size: Side in pixels of the part of the image that a token stands for.
        image_size: Size in pixels that the network was made for.
        can_resize: Whether it accepts other sizes.
        has_cls: Whether the first token is CLS.
        pooled_width: Width of what it pools, or None if it pools nothing.
    """

    layout: str
    prefix: int
    width: int
    patch_size: int
    image_size: Grid
    can_resize: bool
    has_cls: bool
    pooled_width: int | None

    @classmethod
    @torch.no_grad()
    def of(cls, trunk: Any, image_size: Sequence[int]) -> 'TimmTokens':
        """Find out by runs of one image, which may be on the meta device.

        ValueError says what the network has in place of a map of tokens.
        """
        own = (int(image_size[0]), int(image_size[1]))
        features, final = _last_map(trunk, own)
        height, width = final.shape[-2:]
        patch = _whole_patch(own, final)
        if patch is None and (reduction := _reduction(trunk)):
            rounded = (own[0] // reduction * reduction, own[1] // reduction * reduction)
            try:
                found = _last_map(trunk, rounded)
            except ValueError:  # it runs at its own size only
                found = (features, final)
            if patch := _whole_patch(rounded, found[1]):
                # convolutions that pad give one more at the own size
                own = own if (own[0] // patch, own[1] // patch) == (height, width) else rounded
                (features, final), (height, width) = found, found[1].shape[-2:]
        tiles = patch is not None
        patch = max(1, own[0] // height) if patch is None else patch
        if (own[0] // patch, own[1] // patch) != (height, width):
            raise ValueError(f'its map of {times((height, width))} does not tile {times(own)} pixels')
        layout, prefix, channels = _layout(trunk, features, final)
        has_cls = prefix > 0 and _knows_cls(trunk)
        can_resize = tiles and _resizes(trunk, own, patch)
        pooled_width = _pooled_width(trunk, features)
        reader = cls(layout, prefix, channels, patch, own, can_resize, has_cls, pooled_width)
        return reader if final.is_meta else reader.settled(trunk)

    @torch.no_grad()
    def settled(self, trunk: Any) -> 'TimmTokens':
        """Return the reader for the network with its weights, which show the order of the tokens."""
        if self.layout != 'tokens' or self.prefix:
            return self
        features, final = _last_map(trunk, self.image_size)
        permuted = same_but_for_order(features[0].float(), final[0].flatten(1).T.float())
        return replace(self, layout='other') if permuted else self  # see timm's Hiera.reroll

    def read(self, trunk: Any, images: Tensor) -> tuple[Any, Tensor]:
        """Return what ``forward_head`` takes, and tokens ``(B, P + h * w, C)``, row by row."""
        if self.layout == 'other':
            features, maps = _intermediates(trunk, images)
        else:
            features = maps = trunk.forward_features(images)
        if self.layout == 'tokens':
            return features, features
        return features, maps.flatten(1, 2) if self.layout == 'NHWC' else maps.flatten(2).transpose(1, 2)

    def encode(self, trunk: Any, images: Tensor, cls: str) -> Tensor:
        """Return the target of CLS, unless ``cls`` is ``'none'``, and the tokens of patches, all normed."""
        features, tokens = self.read(trunk, images)
        # a network that pools before it norms keeps the final norm in fc_norm
        pools_first = self.layout == 'tokens' and isinstance(getattr(trunk, 'norm', None), nn.Identity)
        if pools_first and getattr(trunk, 'fc_norm', None) is not None:
            tokens = trunk.fc_norm(tokens)
        patches = tokens[:, self.prefix :]
        if cls == 'none':
            return patches
        if cls == 'pooled':
            tokens = trunk.forward_head(features, pre_logits=True)[:, None]
        return torch.cat([tokens[:, :1], patches], dim=1)

    def alone(self, vectors: Tensor) -> Tensor:
        """Return vectors ``(N, C)`` as ``forward_head`` takes N images of one patch each."""
        shape = dict(NCHW=(-1, self.width, 1, 1), NHWC=(-1, 1, 1, self.width))
        return vectors.reshape(shape.get(self.layout, (-1, 1, self.width)))

    def choose_cls(self, asked: str, name: str) -> str:
        """Return what the target of CLS is; ValueError if the network does not have what is asked for."""
        possible = dict(token=self.has_cls, pooled=self.pooled_width == self.width, none=True)
        if asked == 'token':
            reason = 'it has no CLS token'
        elif self.pooled_width is None:
            reason = 'it pools nothing'
        else:
            reason = f'what it pools has width {self.pooled_width}, its tokens have {self.width}'
        return choose_cls(asked, [choice for choice in possible if possible[choice]], name, f'{reason}; ')


def same_but_for_order(tokens: Tensor, others: Tensor) -> bool:
    """Whether two ``(N, C)`` hold the same vectors in different orders."""
    if tokens.shape != others.shape or torch.allclose(tokens, others, atol=1e-4):
        return False
    first, second = (values[values.norm(dim=1).argsort()] for values in (tokens, others))
    return torch.allclose(first, second, rtol=1e-3, atol=1e-3)


def _last_map(trunk: Any, size: Grid) -> tuple[Any, Tensor]:
    """Run one random image; return ``forward_features`` and the last map ``(1, C, h, w)``."""
    images = random_image(size, trunk)
    with network_errors():
        features = trunk.forward_features(images)
        _, final = _intermediates(trunk, images)
    if not isinstance(final, Tensor) or final.ndim != 4:
        raise ValueError('it gives no map of tokens')
    return features, final


def _intermediates(trunk: Any, images: Tensor) -> tuple[Any, Tensor]:
    """Return the final features and the last map ``(B, C, h, w)``, normed where the network can."""
    if not hasattr(trunk, 'forward_intermediates'):
        raise ValueError('it has no forward_intermediates to tell its map of tokens')
    try:
        features, maps = trunk.forward_intermediates(images, indices=1, norm=True, output_fmt='NCHW')
    except AssertionError:  # it has no norm for them
        features, maps = trunk.forward_intermediates(images, indices=1, output_fmt='NCHW')
    return features, maps[-1]


def _layout(trunk: Any, features: Any, final: Tensor) -> tuple[str, int, int]:
    """Tell layout, prefix and width by the map of ``forward_intermediates``."""
    channels, *grid = final.shape[1:]
    shape = list(features.shape[1:]) if isinstance(features, Tensor) else []
    if len(shape) == 2:
        prefix = shape[0] - grid[0] * grid[1]
        if prefix >= 0 and prefix == getattr(trunk, 'num_prefix_tokens', prefix):
            return 'tokens', prefix, shape[1]
    if len(shape) == 3 and shape[1:] == grid:
        return 'NCHW', 0, shape[0]
    if len(shape) == 3 and shape[:2] == grid:
        return 'NHWC', 0, shape[-1]
    return 'other', 0, channels


def _resizes(trunk: Any, size: Grid, patch: int) -> bool:
    if (told := getattr(trunk, 'dynamic_img_size', None)) is not None:
        return bool(told)
    grid = (size[0] // patch + 1, size[1] // patch + 2)
    try:
        _, final = _last_map(trunk, (grid[0] * patch, grid[1] * patch))
    except ValueError:
        return False
    return final.shape[-2:] == grid


def _whole_patch(size: Grid, final: Tensor) -> int | None:
    rows, cols = final.shape[-2:]
    patch = size[0] // rows
    return patch if size == (rows * patch, cols * patch) else None


def _reduction(trunk: Any) -> int | None:
    info = getattr(trunk, 'feature_info', None)
    reduction = info[-1].get('reduction') if info else None
    return reduction if isinstance(reduction, int) and reduction > 0 else None


def _knows_cls(trunk: Any) -> bool:
    """Whether the first of the prefix tokens is CLS, and not a register."""
    if (told := getattr(trunk, 'has_class_token', None)) is not None:
        return bool(told)
    if hasattr(trunk, 'cls_token'):
        return trunk.cls_token is not None
    return getattr(trunk, 'global_pool', None) == 'token'


def _pooled_width(trunk: Any, features: Any) -> int | None:
    try:
        found = trunk.forward_head(features, pre_logits=True)
    except Exception:  # an unknown network may raise anything: it pools nothing that can be had
        return None
    return found.shape[-1] if isinstance(found, Tensor) and found.ndim == 2 else None
