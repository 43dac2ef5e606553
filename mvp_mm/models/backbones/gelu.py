"""GELU for compiled graphs on CUDA."""

import math

import torch
from torch import Tensor, nn

# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: erf to 1.5e-7.
P = 0.3275911
COEFFICIENTS = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


class _CompiledGELU(torch.autograd.Function):
    """Exact GELU with a short form of the error function.

    The compiler itself calls CUDA's ``erf``, which takes longer than reading and writing the tensor. This is
    an exponential, a quotient and a few products, and its exponential serves the derivative too.
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
    """Distribution function and density of the standard normal distribution, in float32."""
    bell = torch.exp(-0.5 * values * values)
    near = 1 / (1 + P / math.sqrt(2) * values.abs())
    tail = torch.full_like(values, COEFFICIENTS[0])
    for coefficient in COEFFICIENTS[1:]:
        tail = tail * near + coefficient
    half_tail = 0.5 * tail * near * bell  # beyond |value|
    return torch.where(values < 0, half_tail, 1 - half_tail), bell / math.sqrt(2 * math.pi)


def compiled_gelu(inputs: Tensor) -> Tensor:
    """Exact GELU, to 1.5e-7 times the input, for low-precision tensors in compiled graphs.

    Args:
        inputs: Any shape; computed in float32.

    Returns:
        In the shape and dtype of ``inputs``.
    """
    return _CompiledGELU.apply(inputs)


class GELU(nn.GELU):
    """torch's GELU, by :func:`compiled_gelu` where a graph for CUDA is compiled in bf16 or float16."""

    def forward(self, inputs: Tensor) -> Tensor:
        """As torch's."""
        low_precision = inputs.dtype in (torch.bfloat16, torch.float16)
        if low_precision and inputs.is_cuda and torch.compiler.is_compiling() and self.approximate == 'none':
            return compiled_gelu(inputs)
        return super().forward(inputs)


def use_compiled_gelu(module: nn.Module) -> None:
    """Make torch's own GELUs of a network :class:`GELU`."""
    for child in module.modules():
        if type(child) is nn.GELU:
            child.__class__ = GELU
