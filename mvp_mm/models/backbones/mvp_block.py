"""A transformer block of the student, under the names of mmpretrain's BEiT.

Shape legend: B batch, L tokens with CLS first, C width.
"""

import torch
from mmcv.cnn.bricks.drop import DropPath
from mmcv.cnn.bricks.transformer import FFN
from mmpretrain.models.utils import build_norm_layer
from torch import Tensor, nn
from torch.nn import functional as F

from ...weights.bias_tables import Grid
from ..compilation import compiled, compiles
from .attention import attention_probabilities, qkv_bias, self_attention, split_heads
from .gelu import use_compiled_gelu
from .relative_position import RelativePositionBias


class MVPAttention(RelativePositionBias):
    """Multi-head self-attention with BEiT's relative position bias; arguments as of :class:`MVPBlock`."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window: Grid | None,
        bias: str | bool = 'qv_bias',
        attn_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f'num_heads={num_heads} does not divide embed_dims={embed_dims}')
        self.num_heads, self.attn_drop_rate = num_heads, attn_drop_rate
        self.has_qv_bias = bias == 'qv_bias'
        if self.has_qv_bias:
            self.q_bias = nn.Parameter(torch.zeros(embed_dims))
            self.v_bias = nn.Parameter(torch.zeros(embed_dims))
        if window is not None:
            self.add_table(window, num_heads)
        self.qkv = nn.Linear(embed_dims, embed_dims * 3, bias=bool(bias) and not self.has_qv_bias)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(proj_drop_rate)

    def forward(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """Attend: ``(B, L, C)`` to ``(B, L, C)``, with the bias of :meth:`logit_bias`."""
        dropout = self.attn_drop_rate if self.training else 0.0
        heads = self_attention(self._query_key_value(tokens), self.num_heads, bias, dropout)
        return self.proj_drop(self.proj(heads))

    def probabilities(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """Recompute the attention ``(B, heads, L, L)`` of ``forward`` (its fused kernels never hold it)."""
        query, key, _ = split_heads(self._query_key_value(tokens), self.num_heads)
        return attention_probabilities(query, key, bias)

    def _query_key_value(self, tokens: Tensor) -> Tensor:
        bias = qkv_bias(self.q_bias, self.v_bias) if self.has_qv_bias else self.qkv.bias
        return F.linear(tokens, self.qkv.weight, bias)

    def logit_bias(self, grid: Grid, shared_bias: Tensor | None) -> Tensor | None:
        """``(heads, L, L)``: this block's own bias, the shared one, their sum, or None."""
        if self.window is None:
            return shared_bias
        own = self.position_bias(grid)
        return own if shared_bias is None else own + shared_bias


class MVPBlock(nn.Module):
    """Pre-norm transformer block with layer scale and stochastic depth.

    Drops the path of each branch once, as BEiT; mmpretrain's block drops that of its feed-forward twice.

    Arguments are those of mmpretrain's block and of :class:`.MVPViT`; ``window`` is the patch grid of the
    block's own bias table, or None, and ``compile`` True, False (default), or ``'auto'`` (:func:`compiles`).
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        window: Grid | None,
        layer_scale_init_value: float,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        bias: str | bool = 'qv_bias',
        act_cfg: dict = dict(type='GELU'),  # noqa: B006  (OpenMMLab configs are read, never written)
        norm_cfg: dict = dict(type='LN', eps=1e-6),  # noqa: B006
        compile: bool | str = False,
    ) -> None:
        super().__init__()
        self.compile_choice = compile
        self.ln1 = build_norm_layer(norm_cfg, embed_dims)
        self.attn = MVPAttention(embed_dims, num_heads, window, bias, attn_drop_rate, drop_rate)
        self.ln2 = build_norm_layer(norm_cfg, embed_dims)
        options = dict(act_cfg=act_cfg, ffn_drop=drop_rate, add_identity=False)
        self.ffn = FFN(embed_dims, feedforward_channels, **options)
        use_compiled_gelu(self.ffn)
        self.drop_path = DropPath(drop_path_rate)
        gamma = layer_scale_init_value * torch.ones(embed_dims)
        self.gamma_1 = nn.Parameter(gamma.clone()) if layer_scale_init_value > 0 else None
        self.gamma_2 = nn.Parameter(gamma) if layer_scale_init_value > 0 else None

    def forward(self, tokens: Tensor, grid: Grid, shared_bias: Tensor | None = None) -> Tensor:
        """``(B, L, C)`` to ``(B, L, C)``."""
        bias = self.attn.logit_bias(grid, shared_bias)
        kept_attn, kept_ffn = self._draw_kept(tokens), self._draw_kept(tokens)
        if not compiles(self.compile_choice, tokens, self.training):
            return self._run(tokens, bias, kept_attn, kept_ffn)
        if kept_attn is None:  # ones, so that one graph serves all blocks
            kept_attn, kept_ffn = tokens.new_ones(2, len(tokens), 1, 1)
        return compiled(MVPBlock._run)(self, tokens, bias, kept_attn, kept_ffn)

    def _run(
        self, tokens: Tensor, bias: Tensor | None, kept_attn: Tensor | None, kept_ffn: Tensor | None
    ) -> Tensor:
        tokens = self._add(tokens, self.attn(self.ln1(tokens), bias), self.gamma_1, kept_attn)
        return self._add(tokens, self.ffn(self.ln2(tokens)), self.gamma_2, kept_ffn)

    def attention_probabilities(
        self, tokens: Tensor, grid: Grid, shared_bias: Tensor | None = None
    ) -> Tensor:
        """Attention ``(B, heads, L, L)`` of ``forward`` on tokens ``(B, L, C)``."""
        return self.attn.probabilities(self.ln1(tokens), self.attn.logit_bias(grid, shared_bias))

    def _draw_kept(self, tokens: Tensor) -> Tensor | None:
        """Draw stochastic depth ``(B, 1, 1)``: 0 for samples whose branch is dropped, else 1 / (1 - rate)."""
        drop = self.drop_path.drop_prob if self.training else 0.0
        if drop <= 0:
            return None
        return (torch.rand_like(tokens[:, :1, :1]) >= drop) / (1 - drop)

    @staticmethod
    def _add(tokens: Tensor, branch: Tensor, gamma: Tensor | None, kept: Tensor | None) -> Tensor:
        """``tokens + kept * gamma * branch`` in one pass over the tokens."""
        if kept is not None:
            gamma = kept if gamma is None else gamma * kept
        if gamma is None:
            return tokens + branch
        if not tokens.is_cuda:
            return torch.addcmul(tokens, gamma, branch)
        with torch.autocast('cuda', enabled=False):  # which would first copy the branch to float32
            return torch.addcmul(tokens, gamma, branch)
