"""What the names in a state dict tell of a vision transformer, and the options in which two differ.

Names are mmpretrain's, without a prefix.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from .bias_tables import SHARED_TABLE, TABLE

POSITIONS = 'pos_embed'


def traits(names: Iterable[str]) -> dict[str, Any]:
    """Return the arguments of :class:`MVPViT` that say which parameters it has.

    The values of a layer scale come from the file: here it is 0.1 or 0.
    """
    names = set(names)
    qv_bias = 'layers.0.attn.q_bias' in names
    return dict(
        use_abs_pos_emb=POSITIONS in names,
        layer_scale_init_value=0.1 if 'layers.0.gamma_1' in names else 0,
        bias='qv_bias' if qv_bias else 'layers.0.attn.qkv.bias' in names,
        use_rel_pos_bias=f'layers.0.attn.{TABLE}' in names,
        use_shared_rel_pos_bias=SHARED_TABLE in names,
    )


TRAITS = tuple(traits([]))  # their names


def changes(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return which traits of a model must change to take a file: one shared table fills one a block."""
    found: dict[str, Any] = {}
    for key in ('use_abs_pos_emb', 'layer_scale_init_value'):  # fixed positions stay, and any scale
        if bool(given[key]) != bool(wanted[key]):
            found[key] = wanted[key]
    if given['bias'] != wanted['bias']:
        found['bias'] = wanted['bias']
    has, needs = (any(kind[key] for key in TRAITS[3:]) for kind in (given, wanted))
    if has != needs or (given['use_shared_rel_pos_bias'] and wanted['use_rel_pos_bias']):
        found['use_rel_pos_bias'] = needs
        if given['use_shared_rel_pos_bias']:
            found['use_shared_rel_pos_bias'] = False
    return found


def as_options(values: Mapping[str, Any]) -> str:
    """Format a backbone's arguments as values of ``--cfg-options``."""
    return ' '.join(f'model.backbone.{key}={value}' for key, value in values.items())
