"""The student: BEiT's vision transformer, for masked pre-training, classification and feature maps.

Shape legend: B batch, (H, W) image in pixels, p patch size, (h, w) = (H/p, W/p) patch grid, M = h * w
patches, L = M + 1 tokens with CLS first, C width.
"""

from collections.abc import Iterator, Sequence

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
from ...weights.load import load_pretrained
from ...weights.read import as_grid
from ..compilation import require_choice
from .mvp_block import MVPBlock
from .patch_embedding import embed_patches
from .relative_position import SharedRelativePositionBias

INIT_STD = 0.02  # BEiT modeling_pretrain.py: normal(0, 0.02), cut at one standard deviation


def _beit_normal_(weight: Tensor) -> None:
    trunc_normal_(weight, std=INIT_STD, a=-INIT_STD, b=INIT_STD)


def _record_grid(vit: 'MVPViT', state_dict: dict, prefix: str, local_metadata: dict) -> None:
    """Record the patch grid beside the weights: shapes do not tell it (see :func:`recorded_grid`)."""
    local_metadata['grid'] = tuple(vit.window)


@MODELS.register_module()
class MVPViT(BaseBackbone):
    """Vision transformer with relative position bias, one class for every stage.

    It takes the arguments of mmpretrain's ``BEiTViT`` and holds exactly its parameters under its names
    (those of ``BEiTPretrainViT`` when there is a mask token), so state dicts load strictly both ways.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``, ``'large'`` (or ``'ti'``, ``'s'``, ``'b'``, ``'l'``),
            or a dict with ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``.
        img_size: Training size in pixels, int or ``(H, W)``. Other sizes are accepted by ``forward``.
            Default 224 (paper §3.3).
        patch_size: Patch side in pixels. Default 16 (paper §3.3).
        in_channels: Image channels. Default 3.
        out_indices: Blocks whose output is returned, an int or a sequence; negative counts from the
            end. Default -1.
        drop_rate: Dropout of embeddings, MLPs and attention outputs. Default 0 (BEiT recipe).
        drop_path_rate: Stochastic depth of the last block, rising linearly from 0. Default 0; the
            pre-training recipe uses 0.1.
        bias: ``'qv_bias'`` (default, BEiT), True or False.
        norm_cfg: Norm layers. Default LayerNorm with eps 1e-6 (BEiT).
        final_norm: Normalise the last block's output (``ln1``). Default False, as ``BEiTViT``.
        out_type: What ``forward`` returns of unmasked images: ``'raw'`` (B, L, C), ``'cls_token'``
            (B, C), ``'featmap'`` (B, C, h, w) or ``'avg_featmap'`` (B, C), the mean of the patch tokens
            through a norm of its own (``ln2``). Default ``'avg_featmap'``.
        with_cls_token: Prepend a CLS token. Default True; False only without relative position bias.
        with_mask_token: Hold the mask token that ``forward(images, mask)`` needs. Default None: yes
            where the bias table is shared, which is how BEiT's pre-training differs from the rest.
        frozen_stages: Freeze the embeddings and the first so many blocks (all: the norms too); -1 and 0
            freeze nothing. Default -1.
        use_abs_pos_emb: Learnt absolute position embedding. Default False (BEiT recipe).
        use_rel_pos_bias: One bias table a block. Default True, as ``BEiTViT``.
        use_shared_rel_pos_bias: One bias table for all blocks. Default False; the pre-training recipe
            uses it.
        interpolate_mode: Resizing of the absolute position embedding. Default ``'bicubic'``.
        layer_scale_init_value: Default 0.1 (BEiT-B); BEiT-L uses 1e-5; 0 for none.
        with_cp: Gradient checkpointing: recompute each block in the backward pass. Default False.
        compile_blocks: ``torch.compile`` the blocks: one graph, compiled in seconds, used by all. True, False
            or ``'auto'`` (default): on CUDA while training.
        patch_cfg: Further arguments of mmcv's ``PatchEmbed``.
        layer_cfgs: Further arguments of every block, or a sequence with a dict for each.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE_OR_URL)`` for any BEiT-family weight file (see
            :func:`load_pretrained`; its ``prefix`` and ``grid`` are allowed and seldom needed), or None.
            Without a checkpoint it is an error, or, with ``optional=True``, the random initialisation that is
            kept.

    Raises:
        ValueError: If an argument is outside of what is listed above.
    """

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
        use_abs_pos_emb: bool = False,
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
        self.arch_settings = self._arch(arch)
        self.embed_dims = self.arch_settings['embed_dims']
        self.num_layers = self.arch_settings['num_layers']
        num_heads = self.arch_settings['num_heads']
        if out_type not in self.OUT_TYPES:
            raise ValueError(f'out_type={out_type!r} is not one of {self.OUT_TYPES}')
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
        require_choice(compile_blocks, 'compile_blocks')
        self.out_type = out_type
        self.out_indices = self._normalised_indices(out_indices)
        self.with_cp = with_cp
        self.interpolate_mode = interpolate_mode
        self.final_norm = final_norm
        if not -1 <= frozen_stages <= self.num_layers:
            raise ValueError(f'frozen_stages={frozen_stages} is not in [-1, {self.num_layers}]')
        self.frozen_stages = frozen_stages

        self.patch_size = patch_size
        self.patch_embed = PatchEmbed(
            **{
                'in_channels': in_channels,
                'input_size': img_size,
                'embed_dims': self.embed_dims,
                'kernel_size': patch_size,
                'stride': patch_size,
                **patch_cfg,
            }
        )
        self.window: Grid = self.patch_embed.init_out_size
        self.num_extra_tokens = int(with_cls_token)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims)) if with_cls_token else None
        if with_mask_token is None:
            with_mask_token = use_shared_rel_pos_bias
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims)) if with_mask_token else None
        num_tokens = self.window[0] * self.window[1] + self.num_extra_tokens
        self.pos_embed = (
            nn.Parameter(torch.zeros(1, num_tokens, self.embed_dims)) if use_abs_pos_emb else None
        )
        self.drop_after_pos = nn.Dropout(drop_rate)
        self.rel_pos_bias = (
            SharedRelativePositionBias(self.window, num_heads) if use_shared_rel_pos_bias else None
        )

        last = max(1, self.num_layers - 1)
        drop_path = [drop_path_rate * index / last for index in range(self.num_layers)]
        if isinstance(layer_cfgs, dict):
            layer_cfgs = [layer_cfgs] * self.num_layers
        self.layers = nn.ModuleList(
            MVPBlock(
                **{
                    'embed_dims': self.embed_dims,
                    'num_heads': num_heads,
                    'feedforward_channels': self.arch_settings['feedforward_channels'],
                    'window': self.window if use_rel_pos_bias else None,
                    'layer_scale_init_value': layer_scale_init_value,
                    'drop_rate': drop_rate,
                    'drop_path_rate': rate,
                    'bias': bias,
                    'norm_cfg': norm_cfg,
                    'compile': compile_blocks,
                    **layer_cfg,
                }
            )
            for rate, layer_cfg in zip(drop_path, layer_cfgs, strict=True)
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
        """Load what ``init_cfg`` names; the constructor has done BEiT's random initialisation."""
        is_dict = isinstance(self.init_cfg, dict)
        if is_dict and self.init_cfg.get('type') == 'Pretrained' and not self.is_init:
            source = self.init_cfg.get('checkpoint')
            if source is None and self.init_cfg.get('optional', False):
                print_log('No pre-trained checkpoint is given: from scratch', 'current')
            else:
                load_pretrained(self, source, self.init_cfg.get('prefix'), self.init_cfg.get('grid'))
            self.is_init = True
        else:
            super().init_weights()

    def _fit_positions(self, state_dict: dict, prefix: str, local_metadata: dict, *args) -> None:
        recorded = as_grid(local_metadata.get('grid'))
        weights, _, resized = fit_positions(state_dict, self, prefix, recorded)
        for name in set(state_dict) - set(weights):
            del state_dict[name]
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

    def _normalised_indices(self, out_indices: int | Sequence[int]) -> tuple[int, ...]:
        given = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
        if any(not -self.num_layers <= index < self.num_layers for index in given):
            raise ValueError(f'out_indices={given} but there are {self.num_layers} blocks')
        return tuple(index % self.num_layers for index in given)

    def reset_parameters(self) -> None:
        """BEiT's initialisation: weights normal(0, 0.02) cut at ±0.02, biases and bias tables zero,
        output projections of block i (from 1) divided by sqrt(2 i)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                _beit_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for token in (self.cls_token, self.mask_token, self.pos_embed):
            if token is not None:
                _beit_normal_(token)
        with torch.no_grad():
            for depth, layer in enumerate(self.layers, start=1):
                layer.attn.proj.weight.div_((2 * depth) ** 0.5)
                layer.ffn.layers[1].weight.div_((2 * depth) ** 0.5)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode images, masked or whole.

        Args:
            images: ``(B, 3, H, W)`` normalised. Sides that are no multiple of the patch size are
                padded with zeros at the right and bottom.
            mask: ``(B, h, w)`` bool, or flat ``(B, M)`` as mmpretrain's algorithms have it; True = masked.
                Default None.

        Returns:
            One entry for each of ``out_indices``. With a mask the tokens ``(B, L, C)``, CLS first, the
            last block's after the final norm; without, what ``out_type`` says.

        Raises:
            ValueError: If a mask is given but there is no mask token, or its shape is not the grid's.
        """
        tokens, grid = self.embed(images, mask)
        shared_bias = None if self.rel_pos_bias is None else self.rel_pos_bias(grid)
        out_type = self.out_type if mask is None else 'raw'
        outs = []
        for index, layer in enumerate(self.layers):
            if self.with_cp and torch.is_grad_enabled():
                tokens = checkpoint(layer, tokens, grid, shared_bias, use_reentrant=False)
            else:
                tokens = layer(tokens, grid, shared_bias)
            if index == self.num_layers - 1 and self.final_norm:
                tokens = self.ln1(tokens)
            if index in self.out_indices:
                outs.append(self._format(tokens, grid, out_type))
        return tuple(outs)

    def encode_image(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor | None, Tensor]:
        """Encode images as :class:`Student` says, whatever ``out_type`` and ``out_indices`` are.

        Args:
            images: ``(B, 3, H, W)`` normalised.
            mask: As for :meth:`forward`.

        Returns:
            CLS ``(B, C)`` or None, and patches ``(B, h * w, C)``: the last block's tokens, after the final
            norm where there is one.
        """
        tokens = self._encode(images, mask)
        cls = tokens[:, 0] if self.num_extra_tokens else None
        return cls, tokens[:, self.num_extra_tokens :]

    def _encode(self, images: Tensor, mask: Tensor | None) -> Tensor:
        tokens, grid = self.embed(images, mask)
        shared_bias = None if self.rel_pos_bias is None else self.rel_pos_bias(grid)
        for layer in self.layers:
            tokens = layer(tokens, grid, shared_bias)
        return self.ln1(tokens) if self.final_norm else tokens

    @property
    def img_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images it was built for."""
        rows, cols = self.window
        return rows * self.patch_size, cols * self.patch_size

    def example_inputs(self, batch: int = 1) -> tuple[Tensor]:
        """Arguments of a forward pass: zeros ``(batch, 3, H, W)`` of the built size, on its device."""
        return (self.patch_embed.projection.weight.new_zeros(batch, 3, *self.img_size),)

    def blockwise(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Encode whole images block by block, with the attention of each: for looking inside.

        One block's attention is held at a time: that of ViT-L at 512 pixels has 64 MiB an image.

        Args:
            images: ``(B, 3, H, W)`` normalised.

        Yields:
            For each block its attention probabilities ``(B, heads, L, L)`` and the tokens that leave it,
            ``(B, L, C)``; the last block's are after the final norm, where there is one.
        """
        tokens, grid = self.embed(images)
        shared_bias = None if self.rel_pos_bias is None else self.rel_pos_bias(grid)
        for index, layer in enumerate(self.layers):
            attention = layer.attention_probabilities(tokens, grid, shared_bias)
            tokens = layer(tokens, grid, shared_bias)
            if index == self.num_layers - 1 and self.final_norm:
                tokens = self.ln1(tokens)
            yield attention, tokens

    def embed(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Grid]:
        """Patches to tokens: embed, put the mask token in, prepend CLS, add positions.

        Args:
            images: ``(B, 3, H, W)`` normalised.
            mask: As for :meth:`forward`.

        Returns:
            Tokens ``(B, L, C)`` and the patch grid ``(h, w)``.
        """
        tokens, grid = self._embed_patches(images)
        if mask is not None:
            tokens = self._put_mask_token(tokens, grid, mask)
        if self.cls_token is not None:
            # Under autocast the patches are bf16 and CLS float32: from here the residual is float32.
            # (`shape[0]`, unlike `len`, stays a free batch size when a graph is exported.)
            tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if self.pos_embed is not None:
            tokens = tokens + resize_pos_embed(
                self.pos_embed, self.window, grid, self.interpolate_mode, self.num_extra_tokens
            )
        return self.drop_after_pos(tokens), grid

    def _embed_patches(self, images: Tensor) -> tuple[Tensor, Grid]:
        """What mmcv's ``PatchEmbed`` returns of images, by the faster of two ways."""
        embed = self.patch_embed
        if embed.adaptive_padding:
            images = embed.adaptive_padding(images)
        tokens = embed_patches(images, embed.projection)
        grid = tuple(tokens.shape[1:3])
        tokens = tokens.flatten(1, 2)
        return tokens if embed.norm is None else embed.norm(tokens), grid

    def _put_mask_token(self, tokens: Tensor, grid: Grid, mask: Tensor) -> Tensor:
        if self.mask_token is None:
            raise ValueError(
                'a mask was given, but this MVPViT has no mask token: build it with with_mask_token=True'
            )
        batch, length = tokens.shape[:2]  # unlike `len`, it stays free when a graph is exported
        if tuple(mask.shape[1:]) not in (grid, (length,)) or mask.shape[0] != batch:
            raise ValueError(
                f'mask of shape {tuple(mask.shape)} for a batch whose patch grid is {(batch, *grid)}: '
                f'expected that shape, or flat {(batch, length)}; the mask generator and the backbone must '
                'agree on crop size and patch size'
            )
        masked = mask.to(torch.bool).flatten(1).unsqueeze(-1)
        return torch.where(masked, self.mask_token, tokens)

    def _format(self, tokens: Tensor, grid: Grid, out_type: str) -> Tensor:
        if out_type == 'raw':
            return tokens
        if out_type == 'cls_token':
            return tokens[:, 0]
        patches = tokens[:, self.num_extra_tokens :]
        if out_type == 'featmap':
            return patches.transpose(1, 2).unflatten(2, grid)
        return self.ln2(patches.mean(dim=1))

    def _frozen_parts(self) -> list[nn.Module | nn.Parameter | None]:
        if self.frozen_stages <= 0:
            return []
        parts = [self.patch_embed, self.drop_after_pos]
        parts += [self.cls_token, self.mask_token, self.pos_embed]
        parts += self.layers[: self.frozen_stages]
        if self.frozen_stages == self.num_layers:
            parts += [self.rel_pos_bias, getattr(self, 'ln1', None), getattr(self, 'ln2', None)]
        return parts

    def _freeze_stages(self) -> None:
        for part in self._frozen_parts():
            if isinstance(part, nn.Module):
                part.eval()
            if part is not None:
                part.requires_grad_(False)

    def train(self, mode: bool = True) -> 'MVPViT':
        """Set the mode; frozen blocks stay in eval mode. Returns self, as ``nn.Module`` does."""
        super().train(mode)
        self._freeze_stages()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay (BEiT's rule).

        Args:
            param_name: Full name of the parameter.
            prefix: What the backbone's names start with, for example ``'backbone.'``.

        Returns:
            ``(depth, number of depths)``: 0 for the embeddings and tokens, i + 1 for block i, the last
            for everything else (norms, the shared table, whatever lies outside of the backbone).
        """
        num_depths = self.num_layers + 2
        if not param_name.startswith(prefix):
            return num_depths - 1, num_depths
        name = param_name[len(prefix) :]
        if name in ('cls_token', 'mask_token', 'pos_embed') or name.startswith('patch_embed.'):
            return 0, num_depths
        if name.startswith('layers.'):
            return int(name.split('.')[1]) + 1, num_depths
        return num_depths - 1, num_depths
