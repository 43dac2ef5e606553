"""transformers' names of BEiT's weights, and mmpretrain's, which are this package's.

transformers has renamed its modules since, but its files keep the names of the first release. Both are
read; written are those of the files, which every release opens.
"""

import re

import torch
from torch import Tensor

# mmpretrain's -> transformers' in files: how a name begins, outside of the blocks and inside of one.
OUTSIDE = {
    'patch_embed.projection.': 'embeddings.patch_embeddings.projection.',
    'cls_token': 'embeddings.cls_token',
    'mask_token': 'embeddings.mask_token',
    'pos_embed': 'embeddings.position_embeddings',
    'rel_pos_bias.': 'encoder.relative_position_bias.',
    'ln1.': 'layernorm.',
    'ln2.': 'pooler.layernorm.',
}
BLOCK = {
    'ln1.': 'layernorm_before.',
    'ln2.': 'layernorm_after.',
    'attn.query.': 'attention.attention.query.',
    'attn.key.': 'attention.attention.key.',
    'attn.value.': 'attention.attention.value.',
    'attn.proj.': 'attention.output.dense.',
    'attn.relative_position_': 'attention.attention.relative_position_bias.relative_position_',
    'ffn.layers.0.0.': 'intermediate.dense.',
    'ffn.layers.1.': 'output.dense.',
    'gamma_': 'lambda_',
}
# Where the modules of newer releases are called otherwise than the entries of files.
OUTSIDE_MODULES = {'rel_pos_bias.': 'shared_position_bias.'}
BLOCK_MODULES = {
    'attn.query.': 'attention.q_proj.',
    'attn.key.': 'attention.k_proj.',
    'attn.value.': 'attention.v_proj.',
    'attn.proj.': 'attention.o_proj.',
    'attn.relative_position_': 'relative_position_bias.relative_position_',
    'ffn.layers.0.0.': 'mlp.fc1.',
    'ffn.layers.1.': 'mlp.fc2.',
}
PROJECTIONS = ('query', 'key', 'value')


def names_from_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of transformers' ``BeitModel`` mmpretrain's names.

    Args:
        weights: Names of the files or of the modules, without ``beit.``. What is no part of a
            ``BeitModel`` keeps its name.

    Returns:
        The weights; query, key and value are one projection.
    """
    named = {}
    for name, value in weights.items():
        block = re.match(r'(?:encoder\.layer|layers)\.(\d+)\.(.+)', name)
        if block:
            rest = _begin(_begin(block[2], _swapped(BLOCK)), _swapped(BLOCK_MODULES))
            named[f'layers.{block[1]}.{rest}'] = value
        else:
            named[_begin(_begin(name, _swapped(OUTSIDE)), _swapped(OUTSIDE_MODULES))] = value
    for query in [name for name in named if name.endswith('.attn.query.weight')]:
        attention = query.removesuffix('query.weight')
        parts = [named.pop(f'{attention}{part}.weight', None) for part in PROJECTIONS]
        if all(part is not None for part in parts):  # else the loading will say that there is no qkv
            named[f'{attention}qkv.weight'] = torch.cat(parts)
        for part in ('query', 'value'):
            if f'{attention}{part}.bias' in named:
                named[f'{attention}{part[0]}_bias'] = named.pop(f'{attention}{part}.bias')
    return named


def names_to_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The way back: mmpretrain's names to those of transformers' files.

    Args:
        weights: Of a BEiT, with ``q_bias`` and ``v_bias``; its index buffers are left out.

    Returns:
        The weights, without ``beit.``; query, key and value apart.
    """
    apart = {}
    for name, value in weights.items():
        if name.endswith('.attn.qkv.weight'):
            for part, rows in zip(PROJECTIONS, value.chunk(3), strict=True):
                apart[name.replace('qkv', part)] = rows
        elif not name.endswith('relative_position_index'):
            apart[re.sub(r'\.attn\.(q|v)_bias$', _bias_of_projection, name)] = value
    named = {}
    for name, value in apart.items():
        block = re.match(r'layers\.(\d+)\.(.+)', name)
        theirs = f'encoder.layer.{block[1]}.{_begin(block[2], BLOCK)}' if block else _begin(name, OUTSIDE)
        named[theirs] = value.contiguous()
    return named


def _bias_of_projection(match: re.Match) -> str:
    return {'q': '.attn.query.bias', 'v': '.attn.value.bias'}[match[1]]


def _swapped(table: dict[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in table.items()}


def _begin(name: str, table: dict[str, str]) -> str:
    """Replace how a name begins, by the first entry that fits."""
    for old, new in table.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
