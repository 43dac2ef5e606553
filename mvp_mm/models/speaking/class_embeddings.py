"""The text embeddings of classes, of which each may have several names."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class ClassEmbeddings(NamedTuple):
    """Unit vectors of the names of classes.

    Shape legend: N names, K classes, D joint embedding width.

    Attributes:
        vectors: ``(N, D)`` float32, L2-normalised.
        owner: Class of each name, int64 ``(N,)``, ascending.
        names: One string a class, its names joined by commas.
    """

    vectors: Tensor
    owner: Tensor
    names: tuple[str, ...]

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
        values = values.movedim(dim, 0)
        largest = values.new_full((len(self.names), *values.shape[1:]), -torch.inf)
        return largest.index_reduce_(0, self.owner, values, 'amax').movedim(0, dim)
