"""How libraries name the weights of a vision transformer; transformers' own way is in its file."""

import re
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class NamingScheme:
    """A library's names and mmpretrain's, which are this package's; each is told by how a name begins."""

    blocks: str  # what the library's names of blocks begin with, up to the block's number
    outside: dict[str, str]  # mmpretrain's beginnings -> the library's, outside of the blocks
    inside: dict[str, str]  # the same inside of a block

    def to_mmpretrain(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename weights; what the scheme does not know keeps its name."""
        outside, inside = ({theirs: ours for ours, theirs in t.items()} for t in (self.outside, self.inside))
        return _renamed(weights, self.blocks, 'layers.', outside, inside)

    def from_mmpretrain(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename mmpretrain's weights to the library's."""
        return _renamed(weights, 'layers.', self.blocks, self.outside, self.inside)


def _renamed(
    weights: dict[str, Tensor], start: str, new_start: str, outside: dict[str, str], inside: dict[str, str]
) -> dict[str, Tensor]:
    """Keep the numbers of blocks, and replace the rest's beginning by the first entry that fits."""
    named = {}
    for name, value in weights.items():
        block = re.match(rf'{re.escape(start)}(\d+\.)', name)
        table, rest = (inside, name[block.end() :]) if block else (outside, name)
        old = next((old for old in table if rest.startswith(old)), '')
        new = table.get(old, '') + rest.removeprefix(old)
        named[f'{new_start}{block[1]}{new}' if block else new] = value
    return named


# Microsoft's BEiT and BEiT v2, and timm's `Beit`.
BEIT = NamingScheme(
    blocks='blocks.',
    outside={'patch_embed.projection.': 'patch_embed.proj.', 'ln1.': 'norm.', 'ln2.': 'fc_norm.'},
    inside={'ln1.': 'norm1.', 'ln2.': 'norm2.', 'ffn.layers.0.0.': 'mlp.fc1.', 'ffn.layers.1.': 'mlp.fc2.'},
)
# timm's `VisionTransformer`: BEiT's, but for the layer scale.
TIMM_VIT = replace(BEIT, inside={**BEIT.inside, 'gamma_1': 'ls1.gamma', 'gamma_2': 'ls2.gamma'})
# mmseg's `VisionTransformer`, which holds torch's attention; its `BEiT` has mmpretrain's names.
MMSEG_VIT = NamingScheme(
    blocks='layers.',
    outside={},
    inside={
        'attn.qkv.weight': 'attn.attn.in_proj_weight',
        'attn.qkv.bias': 'attn.attn.in_proj_bias',
        'attn.proj.': 'attn.attn.out_proj.',
    },
)
