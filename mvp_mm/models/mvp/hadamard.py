"""Hadamard matrices, of whose entries none is zero: they spread every axis evenly over all others."""

from math import isqrt

import torch
from torch import Tensor


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
