"""How a library names the weights of a vision transformer."""

import re
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class NamingScheme:
    """A library's names and mmpretrain's, which are this package's; each is told by how a name begins.

    Args:
        blocks: What the library's names of blocks begin with, up to the block's number.
        outside: mmpretrain's beginnings -> the library's, outside of the blocks.
        inside: The same inside of a block.
        other_blocks: A second spelling of ``blocks`` that is read and not written.
        other_outside: The same for ``outside``.
        other_inside: The same for ``inside``.
    """

    blocks: str
    outside: dict[str, str]
    inside: dict[str, str]
    other_blocks: str = ''
    other_outside: dict[str, str] = field(default_factory=dict)
    other_inside: dict[str, str] = field(default_factory=dict)

    def to_mmpretrain(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename weights; what the scheme does not know keeps its name."""
        starts = '|'.join(re.escape(blocks) for blocks in (self.blocks, self.other_blocks) if blocks)
        outside = _swapped(self.outside) | _swapped(self.other_outside)
        inside = _swapped(self.inside) | _swapped(self.other_inside)
        named = {}
        for name, value in weights.items():
            block = re.match(rf'(?:{starts})(\d+)\.(.+)', name)
            name = f'layers.{block[1]}.{_begin(block[2], inside)}' if block else _begin(name, outside)
            named[name] = value
        return named

    def from_mmpretrain(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename mmpretrain's weights to the library's."""
        named = {}
        for name, value in weights.items():
            block = re.match(r'layers\.(\d+)\.(.+)', name)
            if block:
                name = f'{self.blocks}{block[1]}.{_begin(block[2], self.inside)}'
            else:
                name = _begin(name, self.outside)
            named[name] = value
        return named


def _swapped(table: dict[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in table.items()}


def _begin(name: str, table: dict[str, str]) -> str:
    """Replace the beginning of a name by the first entry that fits."""
    for old, new in table.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
