"""The attention of open_clip's networks."""

from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones.attention import self_attention


class SelfAttention(nn.MultiheadAttention):
    """torch's attention, but on CUDA whole self-attention goes the way of the student's.

    torch's own way copies queries, keys and values there. On a CPU it is the faster one.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's."""
        masks = key_padding_mask is not None or attn_mask is not None or is_causal
        if query is key is value and not (masks or need_weights) and self._is_simple(query):
            qkv = F.linear(query, self.in_proj_weight, self.in_proj_bias)
            heads = self_attention(qkv, self.num_heads, None)
            return F.linear(heads, self.out_proj.weight, self.out_proj.bias), None
        return super().forward(
            query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
        )

    def _is_simple(self, tokens: Tensor) -> bool:
        return (
            tokens.ndim == 3
            and self.batch_first
            and not self.training
            and self.in_proj_weight is not None
            and _reads_in_place(tokens)
            and self.bias_k is None
            and not self.add_zero_attn
        )


def _reads_in_place(tokens: Tensor) -> bool:
    """Whether attention reads queries, keys and values where the joint projection has put them."""
    return tokens.is_cuda


def use_simple_attention(module: nn.Module) -> None:
    """Make the attention of a network, where it is torch's own, :class:`SelfAttention`."""
    for child in module.modules():
        if type(child) is nn.MultiheadAttention:
            child.__class__ = SelfAttention
