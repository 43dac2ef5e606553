"""The text embeddings of classes, of which each may have several names."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class ClassEmbeddings(NamedTuple):
    """Unit vectors of N names of K classes, in a joint space of width D.

    Attributes:
        vectors: ``(N, D)`` float32, L2-normalised.
        owner: Class of each name, int64 ``(N,)``, ascending.
        names: One string a class, its names joined by commas.
    """

    vectors: Tensor
    owner: Tensor
    names: tuple[str, ...]

    @classmethod
    def of(cls, vectors: Tensor, classes: Sequence[Sequence[str]]) -> 'ClassEmbeddings':
        """Give vectors, one a name, to the classes that the names are listed by."""
        owner = [number for number, group in enumerate(classes) for _ in group]
        names = tuple(', '.join(group) for group in classes)
        return cls(vectors, torch.tensor(owner, device=vectors.device), names)

    def to(self, device: torch.device | str) -> 'ClassEmbeddings':
        """Return them on a device."""
        return self._replace(vectors=self.vectors.to(device), owner=self.owner.to(device))

    def cosines(self, features: Tensor) -> Tensor:
        """Cosines ``(..., N)`` of features ``(..., D)`` with every name, float32."""
        return F.normalize(features.float(), dim=-1) @ self.vectors.T

    def of_classes(self, values: Tensor, dim: int = -1) -> Tensor:
        """Take the largest value over the names of each class: N becomes K in a dimension."""
        if len(self.owner) == len(self.names):
            return values
        names = values.movedim(dim, -1)
        least = names.new_full((*names.shape[:-1], len(self.names)), -torch.inf)
        # No split: the sizes of its parts would have to come from the device.
        return least.scatter_reduce(-1, self.owner.expand_as(names), names, 'amax').movedim(-1, dim)
