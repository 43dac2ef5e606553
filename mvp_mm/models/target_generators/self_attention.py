"""Faster attention on CUDA for open_clip's networks."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones.attention import self_attention

MASKS = ('key_padding_mask', 'attn_mask', 'is_causal')


class SelfAttention(nn.MultiheadAttention):
    """torch's attention, with the student's kernels for plain self-attention on CUDA.

    There torch's own copies queries, keys and values; on a CPU it is faster.
    """

    def forward(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        is_plain = (
            len(args) == 3
            and args[0] is args[1] is args[2]
            and args[0].ndim == 3
            and _reads_in_place(args[0])
            and not options.get('need_weights', True)
            and not any(options.get(name) is not None and options[name] is not False for name in MASKS)
            and self.batch_first
            and not self.training
            and self.in_proj_weight is not None
            and self.bias_k is None
            and not self.add_zero_attn
        )
        if is_plain:
            qkv = F.linear(args[0], self.in_proj_weight, self.in_proj_bias)
            heads = self_attention(qkv, self.num_heads, None)
            return F.linear(heads, self.out_proj.weight, self.out_proj.bias), None
        return super().forward(*args, **options)


def _reads_in_place(tokens: Tensor) -> bool:
    """Whether attention reads queries, keys and values where the joint projection has put them."""
    return tokens.is_cuda


def use_simple_attention(network: nn.Module) -> None:
    """Replace torch's own attention in a network by :class:`SelfAttention`."""
    for child in network.modules():
        if type(child) is nn.MultiheadAttention:
            child.__class__ = SelfAttention
