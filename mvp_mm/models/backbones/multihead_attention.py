"""torch's ``nn.MultiheadAttention`` by the student's kernels, where they are faster."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from .attention import learns_faster_explicitly, self_attention


class MultiheadAttention(nn.MultiheadAttention):
    """torch's attention; plain self-attention goes through :func:`.self_attention` where that is faster.

    Torch's own copies queries, keys and values on CUDA; on a CPU it is slower in the backward pass of bf16.
    """

    def forward(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        mask = options.get('attn_mask')
        is_plain = (
            len(args) == 3
            and args[0] is args[1] is args[2]
            and args[0].ndim == 3
            and not options.get('need_weights', True)
            and options.get('key_padding_mask') is None
            and not options.get('is_causal')
            and self.batch_first
            and not (self.training and self.dropout)
            and self.in_proj_weight is not None
            and self.bias_k is None
            and not self.add_zero_attn
        )
        if not is_plain or not (_reads_in_place(args[0], mask) or self._learns_in_bf16(args[0], mask)):
            return super().forward(*args, **options)
        qkv = F.linear(args[0], self.in_proj_weight, self.in_proj_bias)
        heads = self_attention(qkv, self.num_heads, mask)
        return F.linear(heads, self.out_proj.weight, self.out_proj.bias), None

    def _learns_in_bf16(self, tokens: Tensor, mask: Tensor | None) -> bool:
        is_added = mask is None or (mask.ndim == 2 and mask.is_floating_point())
        learns = tokens.requires_grad or self.in_proj_weight.requires_grad
        return is_added and learns and learns_faster_explicitly(tokens, tokens.shape[1])


def _reads_in_place(tokens: Tensor, mask: Tensor | None) -> bool:
    """Whether attention reads queries, keys and values where the joint projection has put them."""
    return tokens.is_cuda and mask is None


def use_faster_attention(network: nn.Module) -> None:
    """Replace torch's own attention in a network by :class:`MultiheadAttention`."""
    for child in network.modules():
        if type(child) is nn.MultiheadAttention:
            child.__class__ = MultiheadAttention
