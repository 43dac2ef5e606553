"""The student: BEiT's vision transformer, for masked pre-training, classification and feature maps.

Shape legend: B batch, (H, W) image in pixels, p patch size, (h, w) = (H/p, W/p) patch grid, M = h * w
patches, L = M + 1 tokens with CLS first, C width.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any, cast

import torch
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.logging import print_log
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.utils import build_norm_layer, resize_pos_embed
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn.init import trunc_normal_
from torch.utils.checkpoint import checkpoint

from ...weights.bias_tables import Grid
from ...weights.fit_positions import fit_positions
from ...weights.load import load
from ...weights.read import as_grid
from ...weights.traits import TRAITS
from ..compilation import require_choice
from ..student import flat_mask
from .mvp_block import MVPBlock
from .patch_embedding import embed_patches
from .relative_position import SharedRelativePositionBias
from .sincos_positions import sincos_positions

INIT_STD = 0.02  # BEiT modeling_pretrain.py: normal(0, 0.02), cut at one standard deviation


def _beit_normal_(weight: Tensor) -> None:
    trunc_normal_(weight, std=INIT_STD, a=-INIT_STD, b=INIT_STD)


def keep_visible(patches: Tensor, hidden: Tensor) -> Tensor:
    """Keep the V patches of each image that are not hidden, in order: ``(B, M, C)`` to ``(B, V, C)``."""
    counts = (~hidden).sum(1)
    least, most = torch.stack([counts.min(), counts.max()]).tolist()  # in one copy from the device
    if least != most or not least:
        raise ValueError(
            f'{least} to {most} patches of an image are visible: patches can only be dropped where every '
            'image shows equally many, as by RandomMask'
        )
    places = hidden.byte().argsort(dim=1, stable=True)[:, :least, None]
    return patches.gather(1, places.expand(-1, -1, patches.shape[2]))


def _record_grid(vit: 'MVPViT', state_dict: dict, prefix: str, local_metadata: dict) -> None:
    """Record the patch grid beside the weights, whose shapes do not tell it (see :func:`recorded_grid`)."""
    local_metadata['grid'] = tuple(vit.window)


@MODELS.register_module()
class MVPViT(BaseBackbone):
    """Vision transformer with relative position bias: one class for pre-training and downstream tasks.

    A :class:`Student`. Its arguments are those of mmpretrain's ``BEiTViT`` (below: those that differ or have
    a source) and so are its parameters (with a mask token, ``BEiTPretrainViT``'s): state dicts load strictly.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``, ``'large'`` (or ``'ti'``, ``'s'``, ``'b'``, ``'l'``),
            or a dict with ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``.
        img_size: Training size in pixels, int or ``(H, W)``; ``forward`` accepts others. Default 224 (§3.3).
        patch_size: Patch side in pixels. Default 16 (paper §3.3).
        drop_path_rate: Stochastic depth of the last block, rising linearly from 0. Default 0.
        bias: ``'qv_bias'`` (default, BEiT), True or False.
        out_type: Output for unmasked images: ``'raw'`` (B, L, C), ``'cls_token'`` (B, C), ``'featmap'``
            (B, C, h, w) or ``'avg_featmap'`` (default; B, C): the mean patch token, normalised (``ln2``).
        with_cls_token: Prepend a CLS token. Default True; False only without relative position bias.
        with_mask_token: Hold a mask token, for masked images. Default None: with a shared bias table only.
        frozen_stages: Freeze the embeddings and this many blocks (if all: the norms too). Default -1: none.
        use_abs_pos_emb: Position embeddings: True (learnt), False (default), or ``'sincos'``: MAE's, fixed.
        use_rel_pos_bias: One bias table per block. Default True.
        use_shared_rel_pos_bias: One bias table for all blocks, as in pre-training. Default False.
        layer_scale_init_value: Default 0.1 (BEiT-B); BEiT-L uses 1e-5; 0 for none.
        with_cp: Gradient checkpointing: recompute each block in the backward pass. Default False.
        compile_blocks: Compile the blocks: True, False or ``'auto'`` (default): on CUDA while training.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE_OR_URL)`` with any BEiT-family weight file (see
            :func:`mvp_mm.weights.load.load` for the optional ``prefix`` and ``grid``), or None. A missing
            checkpoint is an error, or with ``optional=True`` leaves the random initialisation.

    Raises:
        ValueError: If an argument is none of the above.
    """

    _is_init: bool  # BaseModule's
    arch_zoo = {
        name: dict(embed_dims=width, num_layers=depth, num_heads=heads, feedforward_channels=4 * width)
        for names, width, depth, heads in (
            (('ti', 'tiny'), 192, 12, 3),
            (('s', 'small'), 384, 12, 6),
            (('b', 'base'), 768, 12, 12),
            (('l', 'large'), 1024, 24, 16),
        )
        for name in names
    }
    arch_keys = ('embed_dims', 'num_layers', 'num_heads', 'feedforward_channels')
    OUT_TYPES = ('raw', 'cls_token', 'featmap', 'avg_featmap')

    def __init__(
        self,
        arch: str | dict = 'base',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        bias: str | bool = 'qv_bias',
        norm_cfg: dict = dict(type='LN', eps=1e-6),  # noqa: B006
        final_norm: bool = False,
        out_type: str = 'avg_featmap',
        with_cls_token: bool = True,
        with_mask_token: bool | None = None,
        frozen_stages: int = -1,
        use_abs_pos_emb: bool | str = False,
        use_rel_pos_bias: bool = True,
        use_shared_rel_pos_bias: bool = False,
        interpolate_mode: str = 'bicubic',
        layer_scale_init_value: float = 0.1,
        with_cp: bool = False,
        compile_blocks: bool | str = 'auto',
        patch_cfg: dict = dict(),  # noqa: B006
        layer_cfgs: dict | Sequence[dict] = dict(),  # noqa: B006
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        settings = self.arch_settings = self._arch(arch)
        self.embed_dims, self.num_layers, num_heads, hidden_dims = (settings[key] for key in self.arch_keys)
        require_choice(out_type, 'out_type', self.OUT_TYPES)
        if use_rel_pos_bias and use_shared_rel_pos_bias:
            raise ValueError(
                'use_rel_pos_bias and use_shared_rel_pos_bias exclude each other: '
                'pre-training shares one table, downstream every block has its own'
            )
        if not with_cls_token and (use_rel_pos_bias or use_shared_rel_pos_bias or out_type == 'cls_token'):
            raise ValueError(
                'with_cls_token=False goes only with use_rel_pos_bias=False, '
                "use_shared_rel_pos_bias=False and an out_type other than 'cls_token'"
            )
        if not -1 <= frozen_stages <= self.num_layers:
            raise ValueError(f'frozen_stages={frozen_stages} is not in [-1, {self.num_layers}]')
        require_choice(compile_blocks, 'compile_blocks')
        require_choice(use_abs_pos_emb, 'use_abs_pos_emb', (True, False, 'sincos'))
        self.has_fixed_positions = use_abs_pos_emb == 'sincos'
        indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
        if any(not -self.num_layers <= index < self.num_layers for index in indices):
            raise ValueError(f'out_indices={indices} but there are {self.num_layers} blocks')
        self.out_indices = tuple(index % self.num_layers for index in indices)
        self.out_type, self.final_norm, self.frozen_stages = out_type, final_norm, frozen_stages
        self.patch_size, self.interpolate_mode, self.with_cp = patch_size, interpolate_mode, with_cp

        patches = dict(in_channels=in_channels, input_size=img_size, embed_dims=self.embed_dims)
        patches |= dict(kernel_size=patch_size, stride=patch_size)
        self.patch_embed = PatchEmbed(**{**patches, **patch_cfg})
        self.window: Grid = self.patch_embed.init_out_size
        self.num_extra_tokens = int(with_cls_token)
        if with_mask_token is None:
            with_mask_token = use_shared_rel_pos_bias
        num_tokens = self.window[0] * self.window[1] + self.num_extra_tokens
        self.cls_token, self.mask_token, self.pos_embed = (
            nn.Parameter(torch.zeros(1, length, self.embed_dims)) if wanted else None
            for length, wanted in ((1, with_cls_token), (1, with_mask_token), (num_tokens, use_abs_pos_emb))
        )
        if self.pos_embed is not None:
            self.pos_embed.requires_grad_(not self.has_fixed_positions)
        self.drop_after_pos = nn.Dropout(drop_rate)
        shared = SharedRelativePositionBias(self.window, num_heads) if use_shared_rel_pos_bias else None
        self.rel_pos_bias = shared

        block = dict(embed_dims=self.embed_dims, num_heads=num_heads, feedforward_channels=hidden_dims)
        block |= dict(window=self.window if use_rel_pos_bias else None, bias=bias, norm_cfg=norm_cfg)
        block |= dict(layer_scale_init_value=layer_scale_init_value, drop_rate=drop_rate)
        if isinstance(layer_cfgs, dict):
            layer_cfgs = [layer_cfgs] * self.num_layers
        last = max(1, self.num_layers - 1)
        rates = [drop_path_rate * index / last for index in range(self.num_layers)]
        self.layers = nn.ModuleList(
            MVPBlock(**{**block, 'drop_path_rate': rate, 'compile': compile_blocks, **layer_cfg})
            for rate, layer_cfg in zip(rates, layer_cfgs, strict=True)
        )
        if final_norm:
            self.ln1 = build_norm_layer(norm_cfg, self.embed_dims)
        if out_type == 'avg_featmap':
            self.ln2 = build_norm_layer(norm_cfg, self.embed_dims)
        self.reset_parameters()
        self._freeze_stages()
        # Whoever loads a state dict, a whole model's too, gets its positions fitted to this model's grid.
        self.register_state_dict_post_hook(_record_grid)
        self._register_load_state_dict_pre_hook(self._fit_positions)

    def init_weights(self) -> None:
        """Load the checkpoint of ``init_cfg``; the constructor has initialised at random."""
        init_cfg = self.init_cfg
        if not isinstance(init_cfg, dict) or init_cfg.get('type') != 'Pretrained' or self._is_init:
            super().init_weights()
            return
        source = init_cfg.get('checkpoint')
        if source is None and init_cfg.get('optional', False):
            print_log('No pre-trained checkpoint is given: from scratch', 'current')
        else:
            load(self, source, init_cfg.get('prefix'), init_cfg.get('grid'), is_start=True)
        self._is_init = True

    def _fit_positions(self, state_dict: dict, prefix: str, local_metadata: dict, *args) -> None:
        recorded = as_grid(local_metadata.get('grid'))
        weights, _, resized = fit_positions(state_dict, self, prefix, recorded)
        state_dict.clear()
        state_dict.update(weights)
        if resized:
            more = f' and {len(resized) - 1} more' if len(resized) > 1 else ''
            print_log(f'Positions are resized: {resized[0]}{more}', 'current')

    def _arch(self, arch: str | dict) -> dict:
        if isinstance(arch, str):
            if arch.lower() not in self.arch_zoo:
                raise ValueError(f'arch={arch!r} is not one of {sorted(self.arch_zoo)}')
            return self.arch_zoo[arch.lower()]
        missing = [key for key in self.arch_keys if key not in arch]
        if missing:
            raise ValueError(f'a custom arch needs the keys {self.arch_keys}; missing: {missing}')
        return arch

    def reset_parameters(self) -> None:
        """Initialise as BEiT: weights normal(0, 0.02) cut at ±0.02, biases and bias tables zero, output
        projections of block i (from 1) divided by sqrt(2 i)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                _beit_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for token in (self.cls_token, self.mask_token, self.pos_embed):
            if token is not None:
                _beit_normal_(token)
        with torch.no_grad():
            if self.pos_embed is not None and self.has_fixed_positions:
                self.pos_embed.copy_(sincos_positions(self.window, self.embed_dims, self.num_extra_tokens))
            for depth, block in enumerate(cast(Iterable[MVPBlock], self.layers), start=1):
                block.attn.proj.weight.div_((2 * depth) ** 0.5)
                block.ffn.layers[1].weight.div_((2 * depth) ** 0.5)

    @classmethod
    def traits_of(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the :func:`~mvp_mm.weights.traits.traits` of the network that a config builds."""
        defaults = signature(cls).parameters
        return {key: config.get(key, defaults[key].default) for key in TRAITS}

    @property
    def img_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images it was built for."""
        return self.window[0] * self.patch_size, self.window[1] * self.patch_size

    def example_inputs(self, batch: int = 1) -> tuple[Tensor]:
        """Zero images ``(batch, 3, H, W)`` of the built size, on this module's device."""
        weight = self.patch_embed.projection.weight
        return (weight.new_zeros(batch, weight.shape[1], *self.img_size),)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode images, masked or whole.

        Args:
            images: ``(B, 3, H, W)``, normalised; padded with zeros at the right and bottom to whole patches.
            mask: ``(B, h, w)`` bool, or flat ``(B, M)`` as mmpretrain passes it; True = masked. Default None.

        Returns:
            One entry for each of ``out_indices``: with a mask the tokens ``(B, L, C)``, CLS first, the
            last block's after the final norm; without a mask, see ``out_type``.

        Raises:
            ValueError: If a mask is given but there is no mask token, or its shape is not the grid's.
        """
        outs, grid = self._encode(images, mask, self.out_indices)
        out_type = self.out_type if mask is None else 'raw'
        return tuple(self._format(tokens, grid, out_type) for tokens in outs)

    def encode_image(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor | None, Tensor]:
        """See :meth:`Student.encode_image`; ``out_type`` and ``out_indices`` do not matter."""
        (tokens,), _ = self._encode(images, mask, (self.num_layers - 1,))
        return tokens[:, 0] if self.num_extra_tokens else None, tokens[:, self.num_extra_tokens :]

    def encode_visible(self, images: Tensor, mask: Tensor) -> Tensor:
        """Encode the visible patches alone, as MAE does: a mask of 75 % leaves a quarter of the work.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            mask: ``(B, h, w)`` or ``(B, M)`` bool, True = masked, equally many in every image.

        Returns:
            ``(B, 1 + V, C)``: CLS and the V visible patches, row by row, after the final norm if any.

        Raises:
            ValueError: If the mask's shape is not the grid's, images differ in how many patches are visible,
                or positions are relative.
        """
        attention: Any = self.layers[0].attn
        if self.pos_embed is None or self.rel_pos_bias is not None or attention.window is not None:
            raise ValueError(
                'dropping patches needs absolute positions and no others: build this MVPViT with '
                "use_abs_pos_emb=True or 'sincos', use_rel_pos_bias=False and use_shared_rel_pos_bias=False"
            )
        tokens, grid, _ = self.embed(images)
        extra = self.num_extra_tokens
        visible = keep_visible(tokens[:, extra:], flat_mask(mask, tokens.shape[0], grid))
        tokens = torch.cat([tokens[:, :extra], visible], dim=1)
        for index in range(self.num_layers):
            tokens = self._run_block(index, tokens, grid, None)
        return tokens

    def blockwise(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Encode whole images ``(B, 3, H, W)`` block by block, holding one block's attention at a time.

        Yields:
            Each block's attention ``(B, heads, L, L)`` and tokens ``(B, L, C)``, the last after the norm.
        """
        tokens, grid, shared_bias = self.embed(images)
        for index, block in enumerate(cast(Iterable[MVPBlock], self.layers)):
            attention = block.attention_probabilities(tokens, grid, shared_bias)
            tokens = self._run_block(index, tokens, grid, shared_bias)
            yield attention, tokens

    def _encode(
        self, images: Tensor, mask: Tensor | None, out_indices: Sequence[int]
    ) -> tuple[list[Tensor], Grid]:
        """Tokens ``(B, L, C)`` that leave the blocks of ``out_indices``, and the patch grid."""
        tokens, grid, shared_bias = self.embed(images, mask)
        outs = []
        for index in range(self.num_layers):
            tokens = self._run_block(index, tokens, grid, shared_bias)
            if index in out_indices:
                outs.append(tokens)
        return outs, grid

    def _run_block(self, index: int, tokens: Tensor, grid: Grid, shared_bias: Tensor | None) -> Tensor:
        layer = self.layers[index]
        if self.with_cp and torch.is_grad_enabled():
            tokens = checkpoint(layer, tokens, grid, shared_bias, use_reentrant=False)
        else:
            tokens = layer(tokens, grid, shared_bias)
        return self.ln1(tokens) if self.final_norm and index == self.num_layers - 1 else tokens

    def embed(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Grid, Tensor | None]:
        """Return tokens ``(B, L, C)``, patch grid ``(h, w)`` and shared bias ``(heads, L, L)`` or None."""
        embed = self.patch_embed
        if embed.adaptive_padding:
            images = embed.adaptive_padding(images)
        patches = embed_patches(images, embed.projection)
        grid: Grid = (patches.shape[1], patches.shape[2])
        tokens = patches.flatten(1, 2)
        if embed.norm is not None:
            tokens = embed.norm(tokens)
        if mask is not None:
            if self.mask_token is None:
                raise ValueError(
                    'a mask was given, but this MVPViT has no mask token: build it with with_mask_token=True'
                )
            hidden = flat_mask(mask, tokens.shape[0], grid)
            tokens = torch.where(hidden.unsqueeze(-1), self.mask_token, tokens)
        if self.cls_token is not None:
            # Under autocast the patches are bf16 and CLS float32: from here the residual is float32.
            # (`shape[0]`, unlike `len`, stays a free batch size when a graph is exported.)
            tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if self.pos_embed is not None:
            tokens = tokens + resize_pos_embed(
                self.pos_embed, self.window, grid, self.interpolate_mode, self.num_extra_tokens
            )
        shared_bias = None if self.rel_pos_bias is None else self.rel_pos_bias(grid)
        return self.drop_after_pos(tokens), grid, shared_bias

    def _format(self, tokens: Tensor, grid: Grid, out_type: str) -> Tensor:
        if out_type == 'raw':
            return tokens
        if out_type == 'cls_token':
            return tokens[:, 0]
        patches = tokens[:, self.num_extra_tokens :]
        if out_type == 'featmap':
            return patches.transpose(1, 2).unflatten(2, grid)
        return self.ln2(patches.mean(dim=1))

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        parts: list[nn.Module | nn.Parameter | None] = [self.patch_embed, self.drop_after_pos]
        parts += [self.cls_token, self.mask_token, self.pos_embed, *self.layers[: self.frozen_stages]]
        if self.frozen_stages == self.num_layers:
            parts += [self.rel_pos_bias, getattr(self, 'ln1', None), getattr(self, 'ln2', None)]
        for part in parts:
            if isinstance(part, nn.Module):
                part.eval()
            if part is not None:
                part.requires_grad_(False)

    def train(self, mode: bool = True) -> 'MVPViT':
        """Set the mode, except of frozen blocks, and return self (mmpretrain's backbones return None)."""
        super().train(mode)
        self._freeze_stages()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return a parameter's depth for layer-wise decay of the learning rate, and the number of depths.

        BEiT's rule: 0 for embeddings and tokens, i + 1 for block i, the last for everything else, and what is
        outside the backbone, whose names begin with ``prefix``.
        """
        depth = self.num_layers + 1
        first, *others = param_name.removeprefix(prefix).split('.')
        if param_name.startswith(prefix):
            if first in ('cls_token', 'mask_token', 'pos_embed', 'patch_embed'):
                depth = 0
            elif first == 'layers':
                depth = int(others[0]) + 1
        return depth, self.num_layers + 2
