"""Students from timm: vision transformers with a mask token, other networks with a learnt colour.

Shape legend: B batch, (H, W) image in pixels, (h, w) token grid, M = h * w tokens, C width.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from inspect import signature
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.init import trunc_normal_

from ...weights.bias_tables import Grid
from ...weights.fit_positions import times
from ...weights.load import MASKS, load
from ...weights.read import first_few, first_line
from ..compilation import require_choice
from ..student import flat_mask
from .timm_network import (
    EMBEDDINGS,
    attentions_of,
    choose_kernel,
    create_network,
    depths_of,
    layout_of,
    shown,
    width_on_grid,
)

PUBLIC = 'timm:'  # before a name of timm, as a checkpoint: its public weights
NETWORK = 'network.'  # before timm's names in a state dict of a TimmStudent


@MODELS.register_module()
class TimmStudent(BaseModule):
    """Any network of timm with a map of tokens, as a :class:`Student`.

    A network whose patch embedding makes its final grid (ViT, DeiT, BEiT, EVA, DINOv2/3, SigLIP, CaiT, XCiT,
    NaFlexViT, mixers) has a learnt **mask token** in place of the embeddings of masked patches, before
    positions are added. In any other (convolutional, hierarchical) masked patches of the image are
    **painted** with a learnt colour. With ``RandomMask(mask_ratio=0)`` it is feature distillation.

    Tokens are timm's ``forward_features`` without registers. What no output depends on is frozen.

    Args:
        model_name: timm name, with or without a weight tag, ``hf-hub:owner/name`` or ``local-dir:PATH``.
        pretrained: Load its public weights at once (``init_cfg``: when training begins). Default False.
        img_size: Training size in pixels, int or ``(H, W)``. Default None: that of the weight tag.
        patch_size: Side of a masked patch and of a returned token. Default None: the stride of the last map;
            a divisor of it resizes the tokens bilinearly to the finer grid.
        out_type: ``'raw'`` (default): tokens ``(B, 1+M, C)`` of :meth:`head_tokens`; ``'cls_token'`` (B, C);
            ``'pooled'``: the vector ``(B, pooled_dims)`` that timm's own head classifies; ``'featmap'``:
            ``(B, C_i, h_i, w_i)`` of ``forward_intermediates``.
        out_indices: Levels for ``'raw'``, ``'featmap'``: blocks or, of others, stages. Default -1: the last.
        cls: What predicts the target of CLS: ``'token'``; ``'pooled'`` (timm's pooling if it keeps the
            width, else the mean token); ``'none'`` drops the target. Default None: the token, else pooled.
        with_mask_token: Hold a mask token or colour. Default None: with ``out_type='raw'``.
        frozen_stages: Freeze what :meth:`get_layer_depth` puts at this depth or below (0: the embedding);
            the number of levels or more: everything. Default -1: nothing.
        with_cp: Gradient checkpointing. Default False.
        model_args: More arguments for ``timm.create_model``, such as ``drop_path_rate``. Default None.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` with a checkpoint of this class, a weight file
            of timm (which resizes positions), or ``timm:NAME`` for public weights. Default None.

    Attributes:
        embed_dims (int): Width C of the tokens.
        pooled_dims (int): Width of ``'pooled'``.
        channels (list): Width of each level.
        masks_by (str): ``'token'`` or ``'colour'``.

    Raises:
        ValueError: If timm does not know the name, the network has no map of tokens, or an argument is wrong.
    """

    OUT_TYPES = ('raw', 'cls_token', 'pooled', 'featmap')
    _is_init: bool  # BaseModule's

    def __init__(
        self,
        model_name: str,
        pretrained: bool = False,
        img_size: int | tuple[int, int] | None = None,
        patch_size: int | None = None,
        out_type: str = 'raw',
        out_indices: int | Sequence[int] = -1,
        cls: str | None = None,
        with_mask_token: bool | None = None,
        frozen_stages: int = -1,
        with_cp: bool = False,
        model_args: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        require_choice(out_type, 'out_type', self.OUT_TYPES)
        require_choice(cls, 'cls', (None, 'token', 'pooled', 'none'))
        if init_cfg is not None and init_cfg.get('type') != 'Pretrained':
            raise ValueError(f"init_cfg={init_cfg}: expected type='Pretrained', or None for timm's own start")
        self.model_name, self.out_type, self.frozen_stages = model_name, out_type, frozen_stages
        size = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.model_args = dict(model_args or {})
        self.network, self._size_args = create_network(model_name, size, self.model_args)
        self.img_size: Grid = tuple(size or self.network.pretrained_cfg['input_size'][-2:])
        self._attentions = attentions_of(self.network)
        self._look(patch_size)
        indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
        if any(not -self.num_layers <= index < self.num_layers for index in indices):
            raise ValueError(
                f'out_indices={indices} but {model_name} has {self.num_layers} feature levels'
                + ' (no forward_intermediates)' * (self.num_layers == 1)
            )
        self.out_indices = tuple(index % self.num_layers for index in indices)
        if (cls == 'token' or out_type == 'cls_token') and not self.has_cls:
            raise ValueError(f"{model_name} has no CLS token: take cls='pooled' or 'none', out_type='pooled'")
        self.cls = cls or ('token' if self.has_cls else 'pooled')
        with_mask = out_type == 'raw' if with_mask_token is None else with_mask_token
        by_token = with_mask and self.masks_by == 'token'
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self._embedding_width)) if by_token else None
        self.mask_colour = nn.Parameter(torch.zeros(1, 3, 1, 1)) if with_mask and not by_token else None
        if self.mask_token is not None:
            trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)  # as MVPViT's
        self._freeze_unused()
        if with_cp:
            self.network.set_grad_checkpointing(True)
        self._depths = depths_of(self.network)
        self._freeze_stages()
        self._tell()
        if pretrained:
            self._load_public(model_name)

    def _probe_image(self) -> Tensor:
        """Make one image of the built size, without a random draw."""
        (zeros,) = self.example_inputs()
        return torch.linspace(-1, 1, zeros.numel(), device=zeros.device).view_as(zeros)

    @torch.no_grad()
    def _look(self, patch_size: int | None) -> None:
        """Find, on one image, where the network has its tokens: layout, grid, prefix, levels, embedding."""
        network, image = self.network.eval(), self._probe_image()
        embeddings: dict[str, Any] = {}
        handles = [
            module.register_forward_hook(lambda _, __, out, name=name: embeddings.update({name: out}))
            for name, module in network.named_modules()
            if name in EMBEDDINGS
        ]
        try:
            raw = network.forward_features(image)
        except Exception as error:  # an unknown network may raise anything
            raise self._refusal(f'on {times(self.img_size)} pixels: {first_line(error)}') from error
        finally:
            for handle in handles:
                handle.remove()
        maps: Any = []
        with suppress(Exception):  # not every network has it, or has it for maps
            maps = network.forward_intermediates(image, output_fmt='NCHW', intermediates_only=True)
        self.num_layers, self.channels = max(1, len(maps)), [level.shape[1] for level in maps]
        last = tuple(maps[-1].shape[2:]) if maps else None
        found = layout_of(raw, network, last)
        self.reads_last_map = found is None
        if found is None:
            if last is None:
                raise self._refusal(f'its forward_features returns {shown(raw)}, which is no map of tokens')
            found = ('NCHW', last, self.channels[-1], 0)
        self._form, grid, self.embed_dims, self._prefix = found
        owner = getattr(network, 'embeds', network)
        self.has_cls = self._prefix > 0 and getattr(owner, 'cls_token', None) is not None
        self.stride = self._stride_of(grid)
        self.patch_size = self.stride if patch_size is None else patch_size
        if self.patch_size < 1 or self.stride % self.patch_size:
            raise ValueError(
                f'patch_size={patch_size} is no divisor of {self.stride}, the stride of {self.model_name}'
            )
        widths = {name: width for name in EMBEDDINGS if (width := width_on_grid(embeddings.get(name), grid))}
        by_token = bool(widths) and self.patch_size == self.stride
        self._embedding, self._embedding_width = next(iter(widths.items())) if by_token else ('', 0)
        self.masks_by = 'token' if by_token else 'colour'
        norm, self._norm = getattr(network, 'norm', None), None
        if isinstance(norm, nn.Identity) and getattr(network, 'fc_norm', None) is not None:
            self._norm = 'fc_norm'  # of a network that norms only what it pools
        self._pools, self.pooled_dims = False, self.embed_dims
        with suppress(Exception):  # a head for another map
            pooled = network.forward_head(self.encode_by(network, image)[2], pre_logits=True)
            if pooled.ndim == 2:
                self._pools, self.pooled_dims = True, pooled.shape[1]
        self._pooled_fits = self._pools and self.pooled_dims == self.embed_dims

    def _refusal(self, reason: str) -> ValueError:
        return ValueError(
            f'{self.model_name} cannot be a student ({reason}): take a network with a map of tokens, or '
            'another img_size'
        )

    def _stride_of(self, grid: Grid) -> int:
        """Return the side in pixels of a token: whole where the image divides, else that of feature_info."""
        whole = self.img_size[0] // grid[0]
        if self.img_size == (whole * grid[0], whole * grid[1]):
            return whole
        info = getattr(self.network, 'feature_info', None)
        stride = info[-1].get('reduction', 0) if info else 0
        if stride and (-(-self.img_size[0] // stride), -(-self.img_size[1] // stride)) == grid:
            return stride
        raise self._refusal(f'{times(self.img_size)} pixels are {times(grid)} tokens, no whole pixels each')

    def _tell(self) -> None:
        cls = {
            'token': 'its CLS token',
            'pooled': "timm's pooled features" if self._pooled_fits else 'the mean token',
            'none': 'nothing: that target is dropped',
        }[self.cls]
        masks = {'token': f'a mask token after {self._embedding}', 'colour': 'painting with a learnt colour'}
        size = f'{times(self.grid)} tokens of {self.patch_size} pixels, {self.embed_dims} wide'
        told = f'{self.model_name}: {size}'
        if self.out_type == 'raw':
            told += f'; CLS is predicted from {cls}; masking is {masks[self.masks_by]}'
        if self.reads_last_map and not hasattr(self.network, 'reroll'):
            told += '; tokens are its last feature map'
        print_log(told, 'current')

    @property
    def grid(self) -> Grid:
        """Token grid ``(h, w)`` of :attr:`img_size`."""
        return -(-self.img_size[0] // self.patch_size), -(-self.img_size[1] // self.patch_size)

    @property
    def predicts_cls(self) -> bool:
        """Whether :meth:`head_tokens` has a vector for the target of CLS."""
        return self.cls != 'none'

    def timm_model(self) -> tuple[str, dict[str, Any]]:
        """Return the name and arguments with which ``timm.create_model`` builds the same network."""
        return self.model_name, dict(self.model_args, num_classes=0, **self._size_args)

    def example_inputs(self, batch: int = 1) -> tuple[Tensor]:
        """Zero images ``(batch, 3, H, W)`` of the built size, on this module's device."""
        return (next(self.network.parameters()).new_zeros(batch, 3, *self.img_size),)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode images, masked or whole: see ``out_type`` and ``out_indices``.

        Args:
            images: ``(B, 3, H, W)``, normalised; padded with zeros at the right and bottom to whole patches.
            mask: ``(B, h, w)`` bool, True = masked; then the output is ``'raw'``. Default None.

        Raises:
            ValueError: If a mask is given to a student without mask token or colour, or has another shape.
        """
        choose_kernel(self._attentions, images, self.training)
        out_type = self.out_type if mask is None else 'raw'
        if out_type == 'pooled':
            return (self.encode_pooled(images)[2],)
        if out_type == 'cls_token':
            cls, _ = self.encode_image(images)
            assert cls is not None
            return (cls,)
        if out_type == 'featmap':
            return tuple(self._levels(images, self.out_indices))
        inner = [index for index in self.out_indices if index != self.num_layers - 1]
        outs = self._inner_tokens(images, inner, mask) if inner else []
        if len(inner) < len(self.out_indices):
            cls, patches = self.head_tokens(images, mask)
            outs.append(patches if cls is None else torch.cat([cls[:, None], patches], dim=1))
        return tuple(outs)

    def _inner_tokens(self, images: Tensor, indices: Sequence[int], mask: Tensor | None) -> list[Tensor]:
        """Tokens of levels before the last: CLS, or the mean token, and patches."""
        accepted = signature(self.network.forward_intermediates).parameters
        with_cls = self.cls == 'token' and 'return_prefix_tokens' in accepted
        outs = []
        for level in self._levels(images, indices, mask, with_cls):
            level, prefix = level if with_cls else (level, None)
            patches = level.flatten(2).transpose(1, 2)
            first = patches.mean(1, keepdim=True) if prefix is None else prefix[:, :1]
            outs.append(torch.cat([first, patches], dim=1) if self.predicts_cls else patches)
        return outs

    def encode_image(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor | None, Tensor]:
        """See :meth:`Student.encode_image`: timm's ``forward_features``, CLS and patches."""
        return self._encode(images, mask)[:2]

    def head_tokens(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor | None, Tensor]:
        """Return what a head is to project: a vector for CLS ``(B, C)`` (``cls``), and patches ``(B, M, C)``.

        They pass ``fc_norm`` where the network has no norm before its pooling.
        """
        cls, patches, raw = self._encode(images, mask)
        norm = getattr(self.network, self._norm) if self._norm else nn.Identity()
        patches = norm(patches)
        if self.cls == 'none':
            return None, patches
        if self.cls == 'token':
            return norm(cls), patches
        return self._pooled(raw, patches) if self._pooled_fits else patches.mean(1), patches

    def encode_pooled(self, images: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return :meth:`encode_image` of whole images, and timm's pooled features ``(B, pooled_dims)``."""
        cls, patches, raw = self._encode(images, None)
        return cls, patches, self._pooled(raw, patches)

    def _pooled(self, raw: Any, patches: Tensor) -> Tensor:
        return self.network.forward_head(raw, pre_logits=True) if self._pools else patches.mean(1)

    def encode_by(self, network: Any, images: Tensor) -> tuple[Tensor | None, Tensor, Any]:
        """Encode images of whole patches by a network like this one's: CLS, patches, what its head pools."""
        if self.reads_last_map:
            raw, levels = network.forward_intermediates(images, indices=1, output_fmt='NCHW')
            return None, self._patches(levels[-1], images), raw
        raw = network.forward_features(images)
        return raw[:, 0] if self.has_cls else None, self._patches(raw, images), raw

    def _patches(self, raw: Tensor, images: Tensor) -> Tensor:
        """Cut the patches ``(B, M, C)`` of images out of the network's output."""
        tokens = raw.flatten(2).transpose(1, 2) if self._form == 'NCHW' else raw
        tokens = tokens.flatten(1, 2) if self._form == 'NHWC' else tokens
        patches = tokens[:, self._prefix :]
        if self.patch_size == self.stride:
            return patches
        coarse = patches.transpose(1, 2).unflatten(2, self._grid_of(images, self.stride))
        fine = F.interpolate(coarse, self._grid_of(images, self.patch_size), mode='bilinear')
        return fine.flatten(2).transpose(1, 2)

    @staticmethod
    def _grid_of(images: Tensor, side: int) -> Grid:
        return -(-images.shape[-2] // side), -(-images.shape[-1] // side)

    def _encode(self, images: Tensor, mask: Tensor | None) -> tuple[Tensor | None, Tensor, Any]:
        with self._masked(images, mask) as images:
            return self.encode_by(self.network, images)

    def _levels(
        self, images: Tensor, indices: Sequence[int], mask: Tensor | None = None, with_prefix: bool = False
    ) -> list[Any]:
        with self._masked(images, mask) as images:
            if not self.channels:  # no forward_intermediates
                patches = self.encode_by(self.network, images)[1]
                return [patches.transpose(1, 2).unflatten(2, self._grid_of(images, self.patch_size))]
            ordered = sorted(set(indices))
            kept: dict[str, Any] = dict(indices=ordered, output_fmt='NCHW', intermediates_only=True)
            kept |= dict(return_prefix_tokens=True) if with_prefix else {}
            levels = self.network.forward_intermediates(images, **kept)
        return [levels[ordered.index(index)] for index in indices]

    @contextmanager
    def _masked(self, images: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
        """Pad to whole tokens, and mask what runs inside: the image, or by a hook its patch embedding."""
        bottom, right = (-side % self.stride for side in images.shape[-2:])
        if (bottom or right) and self.img_size != images.shape[-2:]:
            images = F.pad(images, (0, right, 0, bottom))
        grid = self._grid_of(images, self.patch_size)
        if mask is None:
            yield images
            return
        if self.mask_token is None and self.mask_colour is None:
            raise ValueError('a mask was given but this TimmStudent has none to put in: with_mask_token=True')
        mask = flat_mask(mask, len(images), grid).unflatten(1, grid)
        if self.mask_colour is not None:
            hidden = mask.repeat_interleave(self.patch_size, 1).repeat_interleave(self.patch_size, 2)
            hidden = hidden[:, None, : images.shape[-2], : images.shape[-1]]
            yield torch.where(hidden, self.mask_colour.to(images.dtype), images)
            return

        def put_in(_: nn.Module, __: Any, out: Any) -> Any:
            first = out if isinstance(out, Tensor) else out[0]
            assert self.mask_token is not None
            token = self.mask_token.to(first.dtype)
            if first.ndim == 4 and tuple(first.shape[1:3]) != grid:  # channels first
                first = torch.where(mask[:, None], token.view(1, -1, 1, 1), first)
            else:
                first = torch.where((mask.flatten(1) if first.ndim == 3 else mask)[..., None], token, first)
            return first if isinstance(out, Tensor) else type(out)((first, *out[1:]))

        with self.network.get_submodule(self._embedding).register_forward_hook(put_in):
            yield images

    def init_weights(self) -> None:
        """Load the checkpoint of ``init_cfg``; the constructor has initialised as timm does."""
        init_cfg = self.init_cfg
        if not isinstance(init_cfg, dict) or self._is_init:
            self._is_init = True  # MMEngine's own would start timm's modules anew
            return
        source = init_cfg.get('checkpoint')
        if source is None and init_cfg.get('optional', False):
            print_log('No pre-trained checkpoint is given: from scratch', 'current')
        elif str(source).startswith(PUBLIC):
            self._load_public(str(source).removeprefix(PUBLIC))
        else:
            load(self, source, init_cfg.get('prefix'), is_start=True)
        self._is_init = True

    def _load_public(self, name: str) -> None:
        network, _ = create_network(name, self._size_args.get('img_size'), self.model_args, pretrained=True)
        self.network.load_state_dict(network.state_dict())
        print_log(f'The student starts from the public weights {name} of timm', 'current')

    def adapt_weights(self, weights: dict[str, Tensor], source: str) -> dict[str, Tensor]:
        """Bring a checkpoint's or a timm file's weights to this student's names and sizes.

        Args:
            weights: By name, with or without ``network.`` before timm's names.
            source: What errors call them.

        Raises:
            ValueError: If there is an entry for which the network has no place, its classifier aside.
        """
        own = self.network.state_dict()
        start = NETWORK if any(name.startswith(NETWORK) for name in weights) else ''
        inner = {n.removeprefix(start): v for n, v in weights.items() if n.startswith(start)}
        marks = {name: weights[name] for name in MASKS if start and name in weights}
        if any(name not in inner or inner[name].shape != value.shape for name, value in own.items()):
            translate = getattr(sys.modules[type(self.network).__module__], 'checkpoint_filter_fn', None)
            try:
                inner = translate(inner, self.network) if translate else inner
            except Exception as error:  # written for the files that timm knows
                print_log(f'timm cannot translate {source}: {first_line(error)}', 'current')
        heads = self.network.pretrained_cfg.get('classifier') or ()
        heads = (heads,) if isinstance(heads, str) else tuple(heads)
        inner = {n: v for n, v in inner.items() if n in own or not n.startswith(heads)}
        if rest := [name for name in inner if name not in own and own.keys() & inner.keys()]:
            raise ValueError(f'{source} has {first_few(rest)}, for which {self.model_name} has no place')
        return {f'{NETWORK}{name}': value for name, value in inner.items()} | marks

    def _freeze_unused(self) -> None:
        """Freeze parameters that no output depends on, such as a pooling that is not asked for."""
        if torch.is_inference_mode_enabled():
            return
        self.network.train()  # in eval mode some cache what has no gradient then
        for module in self.network.modules():
            module.training &= not hasattr(module, 'running_mean')
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            sum(out.float().sum() for out in self(self._probe_image())).backward()
        unused = [n for n, p in self.network.named_parameters() if p.requires_grad and p.grad is None]
        for name, parameter in self.network.named_parameters():
            parameter.grad = None
            parameter.requires_grad_(parameter.requires_grad and name not in unused)
        if unused:
            print_log(f'{self.model_name}: not in use, and frozen: {first_few(unused)}', 'current')
        self.network.train()

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        whole = self.frozen_stages >= self.num_layers
        for name, parameter in self.network.named_parameters():
            if whole or self._depths[name] <= self.frozen_stages:
                parameter.requires_grad_(False)
                self.network.get_submodule(name.rpartition('.')[0]).eval()
        for mask in self.parameters(recurse=False):
            mask.requires_grad_(False)
        if whole:
            self.network.eval()

    def train(self, mode: bool = True) -> 'TimmStudent':
        """Set the mode, except of frozen layers, and return self."""
        super().train(mode)
        self._freeze_stages()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return a parameter's depth for layer-wise decay of the learning rate, and the number of depths.

        Depths are those of timm's ``group_matcher``; masks have 0, names that lack ``prefix`` the last.
        """
        depth = last = max(self._depths.values()) + 1
        if param_name.startswith(prefix):
            depth = self._depths.get(param_name.removeprefix(prefix).removeprefix(NETWORK), 0)
        return depth, last + 1
