"""Targets of several teachers on one scale.

Shape legend: B batch, E 1 with a CLS target and 0 without, M patches, D width.
"""

from math import isqrt

import torch
from mmengine.dist import all_reduce, broadcast
from torch import Tensor, nn
from torch.nn import functional as F

from ..step_counter import StepCounter

METHODS = ('dimensions', 'phi-s')
LEAST_DEVIATION = 1e-3  # of the mean one: a dimension that never changes is not blown up


class Standardiser(nn.Module):
    """Standardise a teacher's targets by statistics of its first batches.

    With mean μ and covariance Σ = U Λ Uᵀ of the targets g, separately of CLS and of patches:

    * ``'dimensions'``: ``z_d = (g_d - μ_d) / sqrt(Σ_dd)`` (as UNIC, arXiv:2408.05088);
    * ``'phi-s'``: ``z = H Uᵀ (g - μ) / φ``, ``φ² = tr(Λ) / D``, H of :func:`hadamard`: each dimension has
      variance 1 by one scale for all (PHI-S, arXiv:2410.01680, section 2).

    While batches are counted the statistics are those so far, and the rotation H Uᵀ waits for the last one.
    They are summed in float64 over all processes, so that several ranks have those of the joined batch.

    Args:
        width: D.
        method: One of :data:`METHODS`.
        batches: How many training batches are counted.

    Raises:
        ValueError: If the method is unknown, or ``'phi-s'`` has no Hadamard matrix of this width.
    """

    moments: Tensor
    mean: Tensor
    scale: Tensor
    rotation: Tensor | None

    def __init__(self, width: int, method: str, batches: int) -> None:
        super().__init__()
        if method not in METHODS:
            raise ValueError(f'standardise={method!r} is none of {", ".join(map(repr, METHODS))}')
        if batches < 1:
            raise ValueError(f'batches={batches}: statistics need one batch or more')
        self.width, self.method, self.batches = width, method, batches
        rotates = method == 'phi-s'
        if rotates:
            try:
                hadamard(width)
            except ValueError as error:
                raise ValueError(f"{error}: use standardise='dimensions'") from None
        self.counter = StepCounter()
        # of CLS and of patches: number, sum, and sum of squares or of outer products
        size = 1 + width + (width**2 if rotates else width)
        self.register_buffer('moments', torch.zeros(2, size, dtype=torch.float64))
        self.register_buffer('mean', torch.zeros(2, width))
        self.register_buffer('scale', torch.ones(2, 1 if rotates else width))
        self.register_buffer('rotation', torch.eye(width).repeat(2, 1, 1) if rotates else None)

    def forward(self, targets: Tensor, extra: int) -> Tensor:
        """Standardise ``(B, E+M, D)`` to float32, with E = ``extra``; in training, count them first."""
        with torch.autocast(targets.device.type, enabled=False):
            parts = targets[:, :extra], targets[:, extra:]
            if self.training and self.counter.count < self.batches:
                self._count(parts)
            return torch.cat([self._standardised(tokens, kind) for kind, tokens in enumerate(parts)], dim=1)

    def restore(self, tokens: Tensor, kind: int) -> Tensor:
        """Bring predictions ``(..., D)`` of CLS (``kind`` 0) or patches (1) back to the teacher's space.

        The cosine loss trains only the direction of z: its length is taken to be the average, ``sqrt(D)``.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = F.normalize(tokens.float(), dim=-1) * self.width**0.5
            if self.rotation is not None:
                tokens = tokens @ self.rotation[kind]
            return self.mean[kind] + self.scale[kind] * tokens

    def _standardised(self, tokens: Tensor, kind: int) -> Tensor:
        tokens = (tokens.float() - self.mean[kind]) / self.scale[kind]
        return tokens if self.rotation is None else tokens @ self.rotation[kind].T

    @torch.no_grad()
    def _count(self, parts: tuple[Tensor, Tensor]) -> None:
        rows = []
        for tokens in (part.flatten(0, 1).double() for part in parts):
            second = tokens.square().sum(0) if self.rotation is None else (tokens.T @ tokens).flatten()
            rows.append(torch.cat([tokens.new_tensor([len(tokens)]), tokens.sum(0), second]))
        batch = torch.stack(rows)
        batch = batch.where(batch.isfinite().all(), 0.0)  # one bad batch would spoil all
        all_reduce(batch)
        self.moments += batch
        self.counter.advance()
        for kind in (0, 1):
            self._estimate(kind)

    def _estimate(self, kind: int) -> None:
        number, first, second = self.moments[kind].tensor_split([1, 1 + self.width])
        number = number.clamp(min=1)
        mean, second = first / number, second / number
        self.mean[kind] = mean
        if self.rotation is None:
            deviation = (second - mean.square()).clamp(min=0).sqrt()
            least = LEAST_DEVIATION * deviation.mean() + torch.finfo(torch.float32).tiny
            self.scale[kind] = deviation.clamp(min=least)
            return
        covariance = second.view(self.width, -1) - torch.outer(mean, mean)
        tiny = torch.finfo(torch.float32).tiny
        self.scale[kind] = (covariance.trace() / self.width).clamp(min=tiny).sqrt()
        if self.counter.count == self.batches:
            _, axes = torch.linalg.eigh(covariance.cpu())
            rotation = (hadamard(self.width) @ axes.T).to(self.rotation)
            broadcast(rotation)  # eigenvectors are not the same bits on every machine
            self.rotation[kind] = rotation


def hadamard(order: int) -> Tensor:
    """Build an orthogonal matrix ``(order, order)`` with entries ``±order ** -0.5``, float64.

    By Sylvester's doubling of 1 or of Paley's matrix of order ``q + 1``, q a prime with ``q % 4 == 3``
    (Paley, 1933): 384, 512, 768, 1024, 1152, 1280, 1408 and most other widths of networks.

    Raises:
        ValueError: If neither construction has this order.
    """
    base = order
    while base > 1 and not _is_paley(base):
        if base % 2:
            raise ValueError(f'no Hadamard matrix of order {order} is built here')
        base //= 2
    matrix = torch.ones(1, 1, dtype=torch.float64) if base == 1 else _paley(base - 1)
    while len(matrix) < order:
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64), matrix)
    return matrix * order**-0.5


def _is_paley(order: int) -> bool:
    prime = order - 1
    return order % 4 == 0 and all(prime % factor for factor in range(2, isqrt(prime) + 1))


def _paley(prime: int) -> Tensor:
    """``[[1, 1], [-1, Q + I]]``, with Q_ij = 1 where i - j is a square modulo the prime, else -1."""
    numbers = torch.arange(prime)
    character = -torch.ones(prime, dtype=torch.float64)
    character[numbers.square() % prime] = 1
    character[0] = 0
    matrix = torch.ones(prime + 1, prime + 1, dtype=torch.float64)
    matrix[1:, 0] = -1
    matrix[1:, 1:] = character[(numbers[:, None] - numbers) % prime] + torch.eye(prime)
    return matrix
