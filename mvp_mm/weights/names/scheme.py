"""How a library names the weights of a vision transformer."""

import re
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class NamingScheme:
    """A library's names and mmpretrain's, which are this package's; each is told by how a name begins.

    Args:
        blocks: What the library's names of blocks begin with, up to the block's number.
        outside: mmpretrain's beginnings -> the library's, outside of the blocks.
        inside: The same inside of a block.
    """

    blocks: str
    outside: dict[str, str]
    inside: dict[str, str]

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
    named = {}
    for name, value in weights.items():
        block = re.match(rf'{re.escape(start)}(\d+)\.(.+)', name)
        new = f'{new_start}{block[1]}.{_begin(block[2], inside)}' if block else _begin(name, outside)
        named[new] = value
    return named


def _begin(name: str, table: dict[str, str]) -> str:
    """Replace the beginning of a name by the first entry that fits."""
    for old, new in table.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
