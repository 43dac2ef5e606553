"""A student whose architecture is read off a weight file, for those who have the file and no config."""

from typing import Any

from torch import Tensor

from .bias_tables import SHARED_TABLE, TABLE
from .fit_positions import POSITIONS, grid_of_positions, indices_of
from .load import named_as_mmpretrain
from .read import recorded_grid


def architecture_of(weights: dict[str, Tensor], source: str, prefix: str | None = None) -> dict[str, Any]:
    """Arguments with which :class:`MVPViT` has exactly a file's parameters.

    Not in any weight file are the epsilon of the norms, which is BEiT's 1e-6 here, and the activation,
    which is GELU. The output is the mean of the patches where the file has a norm for it (``ln2``), and
    all tokens elsewhere.

    Args:
        weights: Any names that :func:`load_pretrained` knows.
        source: The file, for messages.
        prefix: As for :func:`load_pretrained`.

    Returns:
        Arguments of :class:`MVPViT`.

    Raises:
        ValueError: If it is no vision transformer, or has no relative position bias table, from which
            alone the number of heads can be told.
    """
    weights = named_as_mmpretrain(weights, source, prefix)
    first = 'layers.0.'
    for name in (f'{first}attn.qkv.weight', f'{first}ffn.layers.0.0.weight', f'{first}ln1.weight'):
        if name not in weights:
            raise ValueError(f'{source} is no whole BEiT-family transformer: it has no {name}')
    shared, own = SHARED_TABLE in weights, f'{first}attn.{TABLE}' in weights
    if shared == own:
        found = 'both a shared table and one a block' if own else 'no relative position bias table'
        raise ValueError(
            f'the architecture of {source} cannot be read off its weights: it has {found}. '
            'Give the config of the model'
        )
    table_name = SHARED_TABLE if shared else f'{first}attn.{TABLE}'
    table = weights[table_name]
    positions = {name: weights[name] for name in (table_name, POSITIONS) if name in weights}
    cls = int('cls_token' in weights)
    try:
        grid = grid_of_positions(positions, indices_of(weights), cls, recorded_grid(weights))
    except ValueError as error:
        raise ValueError(f'the architecture of {source} cannot be read off its weights: {error}') from error
    patches = weights['patch_embed.projection.weight']
    width, channels, *patch_size = patches.shape
    if patch_size[0] != patch_size[1]:
        raise ValueError(
            f'{source} has patches of {patch_size[0]}x{patch_size[1]} pixels: squares are expected'
        )
    blocks = {int(name.split('.')[1]) for name in weights if name.startswith('layers.')}
    if f'{first}attn.q_bias' in weights:
        bias: str | bool = 'qv_bias'
    else:
        bias = f'{first}attn.qkv.bias' in weights
    return dict(
        arch=dict(
            embed_dims=width,
            num_layers=max(blocks) + 1,
            num_heads=table.shape[1],
            feedforward_channels=weights[f'{first}ffn.layers.0.0.weight'].shape[0],
        ),
        img_size=(grid[0] * patch_size[0], grid[1] * patch_size[0]),
        patch_size=patch_size[0],
        in_channels=channels,
        bias=bias,
        final_norm='ln1.weight' in weights,
        out_type='avg_featmap' if 'ln2.weight' in weights else 'raw',
        with_mask_token='mask_token' in weights,
        use_abs_pos_emb='pos_embed' in weights,
        use_rel_pos_bias=own,
        use_shared_rel_pos_bias=shared,
        layer_scale_init_value=0.1 if f'{first}gamma_1' in weights else 0,  # its values come from the file
    )
