"""Linear layers by oneDNN on a CPU, bias included."""

import torch
from mmcv.cnn import Linear
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

# Weights of a layer from which the faster product outweighs what Python has to do for it.
SMALLEST = 2**18
# What torch.compile makes of a linear layer on a CPU. torch has no public name for it.
_PRODUCT = getattr(torch.ops.mkldnn, '_linear_pointwise', None)


def onednn_linear(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``tokens @ weight.T + bias``, as torch's ``linear``, and as fast as the CPU can.

    On a CPU torch first writes the bias into all rows of the result, and leaves float32 to MKL, which takes
    longer than oneDNN on some CPUs (docs/performance.md). Where oneDNN cannot be had or is not worth it, on
    other devices, for other dtypes, and while a graph is recorded, this is torch's ``linear``.

    Args:
        tokens: ``(..., inputs)``.
        weight: ``(outputs, inputs)``.
        bias: ``(outputs,)`` or None.

    Returns:
        ``(..., outputs)``; under autocast in its dtype.
    """
    dtype = torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else tokens.dtype
    if not _takes(tokens, weight, dtype):
        return F.linear(tokens, weight, bias)
    tokens, weight = tokens.to(dtype), weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    if torch.is_grad_enabled():
        return _OneDNNLinear.apply(tokens, weight, bias)
    return _PRODUCT(tokens, weight, bias, 'none', [], '')


def is_worthwhile(weight: Tensor) -> bool:
    """Whether a layer of this weight is large enough to be computed otherwise than torch does."""
    return _PRODUCT is not None and weight.numel() >= SMALLEST


def _takes(tokens: Tensor, weight: Tensor, dtype: torch.dtype) -> bool:
    return (
        is_worthwhile(weight)
        and tokens.is_cpu
        and tokens.ndim >= 2
        and tokens.numel() > 0
        and (dtype == torch.float32 or (dtype == torch.bfloat16 and _has_bf16()))
        and (tokens.dtype == weight.dtype or torch.is_autocast_enabled('cpu'))
        and type(tokens) in (Tensor, nn.Parameter)  # none that stands for another, as in a graph
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and torch.backends.mkldnn.enabled
    )


def _has_bf16() -> bool:
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


class _OneDNNLinear(torch.autograd.Function):
    """With the gradients of a linear layer; that of the weight is the faster by torch's own product."""

    @staticmethod
    def forward(ctx, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(tokens, weight)
        return _PRODUCT(tokens, weight, bias, 'none', [], '')

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        tokens, weight = ctx.saved_tensors
        of_tokens, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        return (
            onednn_linear(gradient, weight.t()) if of_tokens else None,
            rows.t() @ tokens.flatten(0, -2) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


class OneDNNLinear(nn.Linear):
    """torch's linear layer by :func:`onednn_linear`; the names and numbers of its weights are the same."""

    def forward(self, tokens: Tensor) -> Tensor:
        """``(..., inputs)`` to ``(..., outputs)``."""
        return onednn_linear(tokens, self.weight, self.bias)


def use_onednn(module: nn.Module) -> None:
    """Make the linear layers of a module, those that are torch's or mmcv's own, :class:`OneDNNLinear`."""
    for child in module.modules():
        if type(child) in (nn.Linear, Linear):
            child.__class__ = OneDNNLinear


if _PRODUCT is not None:

    @register_flop_formula(_PRODUCT)
    def _flops(tokens: tuple, weight: tuple, *args, out_shape: tuple, **kwargs) -> int:
        """Of the shapes; as torch counts, a multiplication and an addition are two."""
        return 2 * torch.Size(out_shape).numel() * weight[1]
