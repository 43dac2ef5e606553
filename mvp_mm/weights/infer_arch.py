"""Infer the architecture of a vision transformer from its weights."""

from typing import Any

from torch import Tensor

from .bias_tables import SHARED_TABLE, TABLE
from .fit_positions import grid_of_positions, indices_of
from .load import find_backbone
from .read import recorded_grid
from .traits import POSITIONS, traits


def infer_arch(
    weights: dict[str, Tensor], source: str, prefix: str | None = None, num_heads: int | None = None
) -> dict[str, Any]:
    """Return the arguments with which :class:`MVPViT` has exactly a file's parameters, in any known format.

    No weight file tells the epsilon of the norms nor the activation: the defaults, 1e-6 and GELU, are BEiT's.
    The output is the mean of the patches if the file has a norm for it (``ln2``), else all tokens. ``prefix``
    is as for :func:`load`; ``num_heads`` is needed where no bias table tells it.
    """
    weights, _ = find_backbone(weights, source, prefix)
    hidden = 'layers.0.ffn.layers.0.0.weight'
    for name in ('layers.0.attn.qkv.weight', hidden, 'layers.0.ln1.weight'):
        if name not in weights:
            raise ValueError(f'{source} is no whole BEiT-family transformer: it has no {name}')
    unknown = f'the architecture of {source} cannot be read off its weights: '
    tables = [name for name in (SHARED_TABLE, f'layers.0.attn.{TABLE}') if name in weights]
    if len(tables) == 2 or (not tables and num_heads is None):
        found = 'both a shared table and one a block' if tables else 'no relative position bias table'
        raise ValueError(f'{unknown}it has {found}. Give the config of the model')
    positions = {name: weights[name] for name in (*tables, POSITIONS) if name in weights}
    with_cls_token = 'cls_token' in weights
    try:
        grid = grid_of_positions(positions, indices_of(weights), int(with_cls_token), recorded_grid(weights))
    except ValueError as error:
        raise ValueError(f'{unknown}{error}') from error
    width, channels, patch_size, other = weights['patch_embed.projection.weight'].shape
    if patch_size != other:
        raise ValueError(f'{source} has patches of {patch_size}x{other} pixels: squares are expected')
    return dict(
        arch=dict(
            embed_dims=width,
            num_layers=1 + max(int(name.split('.')[1]) for name in weights if name.startswith('layers.')),
            num_heads=weights[tables[0]].shape[1] if tables else num_heads,
            feedforward_channels=len(weights[hidden]),
        ),
        img_size=(grid[0] * patch_size, grid[1] * patch_size),
        patch_size=patch_size,
        in_channels=channels,
        final_norm='ln1.weight' in weights,
        out_type='avg_featmap' if 'ln2.weight' in weights else 'raw',
        with_cls_token=with_cls_token,
        with_mask_token='mask_token' in weights,
        **traits(weights),
    )
