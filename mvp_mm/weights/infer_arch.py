"""Infer the architecture of a vision transformer from its weights."""

from typing import Any

from torch import Tensor

from .bias_tables import SHARED_TABLE, TABLE
from .fit_positions import POSITIONS, grid_of_positions, indices_of
from .load import find_backbone
from .read import recorded_grid


def infer_arch(
    weights: dict[str, Tensor], source: str, prefix: str | None = None, num_heads: int | None = None
) -> dict[str, Any]:
    """Return the arguments with which :class:`MVPViT` has exactly a file's parameters.

    No weight file tells the epsilon of the norms nor the activation: the defaults, 1e-6 and GELU, are BEiT's.
    The output is the mean of the patches if the file has a norm for it (``ln2``), else all tokens.

    Args:
        weights: In any format that :func:`load` reads.
        source: The file, for messages.
        prefix: As for :func:`load`.
        num_heads: Attention heads. Default None: as many as a relative position bias table has columns.

    Raises:
        ValueError: If it is no vision transformer, or its number of heads or patch grid cannot be told.
    """
    weights, _ = find_backbone(weights, source, prefix)
    first = 'layers.0.'
    for name in (f'{first}attn.qkv.weight', f'{first}ffn.layers.0.0.weight', f'{first}ln1.weight'):
        if name not in weights:
            raise ValueError(f'{source} is no whole BEiT-family transformer: it has no {name}')
    unknown = f'the architecture of {source} cannot be read off its weights: '
    tables = [name for name in (SHARED_TABLE, f'{first}attn.{TABLE}') if name in weights]
    if len(tables) == 2 or (not tables and num_heads is None):
        found = 'both a shared table and one a block' if tables else 'no relative position bias table'
        raise ValueError(f'{unknown}it has {found}. Give the config of the model')
    positions = {name: weights[name] for name in (*tables, POSITIONS) if name in weights}
    cls = int('cls_token' in weights)
    try:
        grid = grid_of_positions(positions, indices_of(weights), cls, recorded_grid(weights))
    except ValueError as error:
        raise ValueError(f'{unknown}{error}') from error
    width, channels, *patch_size = weights['patch_embed.projection.weight'].shape
    if patch_size[0] != patch_size[1]:
        raise ValueError(
            f'{source} has patches of {patch_size[0]}x{patch_size[1]} pixels: squares are expected'
        )
    return dict(
        arch=dict(
            embed_dims=width,
            num_layers=1 + max(int(name.split('.')[1]) for name in weights if name.startswith('layers.')),
            num_heads=weights[tables[0]].shape[1] if tables else num_heads,
            feedforward_channels=weights[f'{first}ffn.layers.0.0.weight'].shape[0],
        ),
        img_size=(grid[0] * patch_size[0], grid[1] * patch_size[0]),
        patch_size=patch_size[0],
        in_channels=channels,
        bias='qv_bias' if f'{first}attn.q_bias' in weights else f'{first}attn.qkv.bias' in weights,
        final_norm='ln1.weight' in weights,
        out_type='avg_featmap' if 'ln2.weight' in weights else 'raw',
        with_cls_token=bool(cls),
        with_mask_token='mask_token' in weights,
        use_abs_pos_emb=POSITIONS in weights,
        use_rel_pos_bias=f'{first}attn.{TABLE}' in weights,
        use_shared_rel_pos_bias=SHARED_TABLE in weights,
        layer_scale_init_value=0.1 if f'{first}gamma_1' in weights else 0,  # its values come from the file
    )
