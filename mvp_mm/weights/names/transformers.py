"""Names of transformers' ``BeitModel`` and ``ViTModel``.

Its files keep the names of the first release, its modules have others: both are read, those of files written.
"""

import torch
from torch import Tensor

from .scheme import NamingScheme

PROJECTIONS = ('query', 'key', 'value')
FILES = NamingScheme(
    blocks='encoder.layer.',
    outside={
        'patch_embed.projection.': 'embeddings.patch_embeddings.projection.',
        'cls_token': 'embeddings.cls_token',
        'mask_token': 'embeddings.mask_token',
        'pos_embed': 'embeddings.position_embeddings',
        'rel_pos_bias.': 'encoder.relative_position_bias.',
        'ln1.': 'layernorm.',
        'ln2.': 'pooler.layernorm.',
    },
    inside={
        'ln1.': 'layernorm_before.',
        'ln2.': 'layernorm_after.',
        **{f'attn.{part}.': f'attention.attention.{part}.' for part in PROJECTIONS},
        'attn.proj.': 'attention.output.dense.',
        'attn.relative_position_': 'attention.attention.relative_position_bias.relative_position_',
        'ffn.layers.0.0.': 'intermediate.dense.',
        'ffn.layers.1.': 'output.dense.',
        'gamma_': 'lambda_',
    },
)
MODULES = NamingScheme(
    blocks='layers.',
    outside={'rel_pos_bias.': 'shared_position_bias.'},
    inside={
        **FILES.inside,
        **{f'attn.{part}.': f'attention.{part[0]}_proj.' for part in PROJECTIONS},
        'attn.proj.': 'attention.o_proj.',
        'attn.relative_position_': 'relative_position_bias.relative_position_',
        'ffn.layers.0.0.': 'mlp.fc1.',
        'ffn.layers.1.': 'mlp.fc2.',
    },
)


def names_from_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give weights of files or modules mmpretrain's names, with query, key and value in one projection.

    Names have no ``beit.`` or ``vit.`` before them. What belongs to neither model keeps its name.
    """
    named = MODULES.to_mmpretrain(FILES.to_mmpretrain(weights))
    for query in [name for name in named if name.endswith('.attn.query.weight')]:
        attention = query.removesuffix('query.weight')
        for kind in ('weight', 'bias'):
            parts = {part: named.pop(f'{attention}{part}.{kind}', None) for part in PROJECTIONS}
            found = {part: value for part, value in parts.items() if value is not None}
            if len(found) == 3:
                named[f'{attention}qkv.{kind}'] = torch.cat([*found.values()])
            elif kind == 'bias':  # BEiT's, which has none for the key
                named |= {f'{attention}{part[0]}_bias': bias for part, bias in found.items()}
    return named


def names_to_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give mmpretrain's weights, without the index buffers, the names of transformers' files."""
    apart = {}
    for name, value in weights.items():
        attention, _, kind = name.rpartition('.')
        if attention.endswith('.attn.qkv'):
            for part, rows in zip(PROJECTIONS, value.chunk(3), strict=True):
                apart[f'{attention.removesuffix("qkv")}{part}.{kind}'] = rows
        elif kind in ('q_bias', 'v_bias'):
            apart[f'{attention}.{"query" if kind == "q_bias" else "value"}.bias'] = value
        elif kind != 'relative_position_index':
            apart[name] = value
    return {name: value.contiguous() for name, value in FILES.from_mmpretrain(apart).items()}
