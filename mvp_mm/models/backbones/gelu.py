"""GELU for compiled graphs on CUDA."""

import math

import torch
from torch import Tensor, nn

# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: erf to 1.5e-7.
P = 0.3275911
COEFFICIENTS = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


class CompiledGELU(torch.autograd.Function):
    """GELU to 1.5e-7 times the input, in float32, by a short approximation of the error function.

    The compiler calls CUDA's ``erf``, which takes longer than reading and writing the tensor. This takes
    one exponential, which the derivative uses too, a quotient and a few products.
    """

    @staticmethod
    def forward(ctx, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        below, _ = _normal(inputs.float())
        return (inputs * below).to(inputs.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (inputs,) = ctx.saved_tensors
        below, density = _normal(inputs.float())
        return (gradient * (below + inputs * density)).to(inputs.dtype)


def _normal(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the standard normal's distribution function and density."""
    bell = torch.exp(-0.5 * values * values)
    near = 1 / (1 + P / math.sqrt(2) * values.abs())
    tail = torch.full_like(values, COEFFICIENTS[0])
    for coefficient in COEFFICIENTS[1:]:
        tail = tail * near + coefficient
    half_tail = 0.5 * tail * near * bell  # beyond |value|
    return torch.where(values < 0, half_tail, 1 - half_tail), bell / math.sqrt(2 * math.pi)


class GELU(nn.GELU):
    """torch's GELU, by :class:`CompiledGELU` in graphs compiled for CUDA in bf16 or float16."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply GELU."""
        low_precision = inputs.dtype in (torch.bfloat16, torch.float16)
        if low_precision and inputs.is_cuda and torch.compiler.is_compiling() and self.approximate == 'none':
            return CompiledGELU.apply(inputs)
        return super().forward(inputs)


def use_compiled_gelu(module: nn.Module) -> None:
    """Turn a network's ``nn.GELU`` modules into :class:`GELU`; subclasses stay."""
    for child in module.modules():
        if type(child) is nn.GELU:
            child.__class__ = GELU
