"""Targets from the vision branch of a CLIP model (paper §3.3.1, Eq. 7)."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmpretrain.registry import MODELS
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones.patch_embedding import embed_patches
from ..compilation import require_choice
from ..speaking.text_tower import TextTower
from .attention import use_simple_attention
from .base import Grid, TargetGenerator, probe
from .cleaned_tokens import VARIANTS, cleaned_block, require_cleanable
from .clip_text import load_clip_text
from .clip_weights import (
    CONFIG_NAME,
    LOCAL,
    OPENAI,
    CLIPSource,
    clip_file,
    file_sha256,
    find_clip,
    find_weights,
    load_clip_visual,
)

MODEL = 'ViT-B-16-quickgelu'  # the paper's, always B/16
HIDDEN = "its tokens are before the projection (space='hidden'), where no text is"
QUICK_GELU_FACTOR = 1.702  # OpenAI CLIP model.py


@MODELS.register_module()
class CLIPTargetGenerator(TargetGenerator):
    """CLS and patch tokens of any open_clip vision transformer, in the joint image–text space.

    open_clip returns patch tokens without the projection; here every token passes the final norm and the
    projection, so that patches live in the language space too.

    Args:
        model_name: open_clip model, path of a config (``.json``), folder with ``open_clip_config.json`` and
            weights (also ``local-dir:PATH``), or ``hf-hub:owner/name``. Default the paper's, always B/16.
        pretrained: Tag (default ``'openai'``, the paper's), path of a weight file, or None for random weights
            (logs a warning). The default, True and None mean a folder's or repository's own weights.
        quick_gelu: Whether a local weight file's model was trained with QuickGELU. Not needed if a config
            file lies beside it, or if it is OpenAI's own or from ``tools/train_teacher.py``.
        space: ``'joint'`` (default, the paper's: after the projection) or ``'hidden'`` (before it).
        tokens: ``'last'`` (default, the paper's), or how the last block is changed so that patch tokens match
            text: ``'value'``, ``'neighbour'``, ``'kk'`` or ``'csa'``; see :func:`.cleaned_block`.
        clean_cls: Whether CLS comes out of the changed block, too. Default True; False keeps the image
            embedding, as the configs do. Without effect on ``'last'``.
        cache_dir: Where downloads go. Default None: open_clip's own cache.
        teacher_mean, teacher_std: Channel statistics of the teacher's training images, 0–1 scale. Default
            None: the tag's, those of a config beside the file, of the model, of its tags, or OpenAI's.
        **kwargs: See :class:`TargetGenerator`.

    Raises:
        ValueError: If the model is unknown or has no patch tokens (before any download of weights), or
            QuickGELU or the shapes of the weights do not fit.
        FileNotFoundError: If the tag is unknown or the weights cannot be downloaded.
    """

    def __init__(
        self,
        model_name: str = MODEL,
        pretrained: str | bool | None = OPENAI,
        quick_gelu: bool | None = None,
        space: str = 'joint',
        tokens: str = 'last',
        clean_cls: bool = True,
        cache_dir: str | None = None,
        teacher_mean: Sequence[float] | None = None,
        teacher_std: Sequence[float] | None = None,
        **kwargs,
    ) -> None:
        require_choice(tokens, 'tokens', VARIANTS)
        self.space, self.tokens, self.clean_cls = space, tokens, clean_cls
        source, _ = _find(str(model_name), cache_dir, space, tokens)
        visual: Any
        visual, (mean, std) = load_clip_visual(source, pretrained, quick_gelu, cache_dir)
        self._origin = (source, pretrained, cache_dir)
        self._given = dict(model_name=str(model_name), pretrained=pretrained, quick_gelu=quick_gelu)
        self._text_tower: list[TextTower] = []  # in a list, which nn.Module does not look into
        _fold_quick_gelu(visual)
        use_simple_attention(visual)
        super().__init__(
            teacher=visual,
            teacher_patch_size=_patch_size(visual),
            teacher_image_size=visual.image_size,
            teacher_mean=mean if teacher_mean is None else teacher_mean,
            teacher_std=std if teacher_std is None else teacher_std,
            can_resize_input=not hasattr(visual, 'trunk'),
            **kwargs,
        )

    def check(self, images: Tensor, tokens: Tensor) -> None:
        """Require that entry 0 is open_clip's own image embedding."""
        if self.space == 'hidden':
            return
        if self.tokens != 'last':
            grid = tuple(side // self.teacher_patch_size for side in images.shape[-2:])
            tokens = _tokens(self.teacher, images, (grid[0], grid[1]), self.space)
        if not torch.allclose(tokens[:, 0], self.teacher(images), rtol=1e-3, atol=1e-4):
            raise ValueError(
                'the image embedding of this open_clip model is not its projected CLS token or mean '
                'patch token, so its patch tokens are not in the joint space: use another model_name'
            )

    def identity(self) -> dict[str, Any]:
        """Tell this teacher from others, with the sha256 of its weight file (None: random weights)."""
        path = clip_file(*self._origin)
        kind = dict(space=self.space, tokens=self.tokens, clean_cls=self.clean_cls)
        return super().identity() | self._given | kind | dict(sha256=path and file_sha256(path))

    @property
    def text_tower(self) -> TextTower:
        """The text tower of the weight file, loaded when first asked for; needs ``space='joint'``."""
        if self.space != 'joint':
            raise ValueError(f'this CLIP cannot speak: {HIDDEN}')
        if not self._text_tower:
            self._text_tower.append(load_clip_text(*self._origin))
        return self._text_tower[0]

    @classmethod
    def load_text_tower(cls, identity: Mapping[str, Any], file: str | None = None) -> TextTower:
        """Load the text tower of a teacher without its vision tower.

        Args:
            identity: :meth:`identity`, or the config, of the teacher.
            file: Its weight file, if that lies elsewhere now. Default None.

        Raises:
            FileNotFoundError: If its config or weights are not where they were.
            ValueError: If it has no text tower in the space of its targets.
        """
        if identity.get('space', 'joint') != 'joint':
            raise ValueError(HIDDEN)
        model, pretrained = str(identity.get('model_name', MODEL)), identity.get('pretrained', OPENAI)
        if file is not None:
            pretrained, path = file, Path(model.removeprefix(LOCAL)).expanduser()
            beside = (path, Path(file).with_suffix('.json'), Path(file).parent / CONFIG_NAME)
            if path.suffix == '.json' or path.is_absolute():
                model = str(next((config for config in beside if config.exists()), model))
        return load_clip_text(find_clip(model, None), pretrained, None)

    def encode(self, teacher: nn.Module, images: Tensor, grid: Grid) -> Tensor:
        """Compute Eq. 7: tokens ``(B, 1 + h * w, D)`` of the last layer.

        Entry 0 is the image embedding: the CLS token, or the mean patch token if the model pools so.
        """
        return _tokens(teacher, images, grid, self.space, self.tokens, self.clean_cls)

    def attention_module(self, teacher: nn.Module) -> nn.Module | None:
        """Return the attention of the last layer."""
        return getattr(self.blocks(teacher)[-1], 'attn', None)

    def blocks(self, teacher: Any) -> nn.ModuleList:
        """Return the layers."""
        return _blocks(teacher)


def clip_width(model_name: str, pretrained: str | bool | None) -> int:
    """Return the width of :class:`CLIPTargetGenerator`'s joint space without reading weights.

    Arguments and errors are those of the class; the tag or the weight file must exist.
    """
    source, width = _find(model_name, None, 'joint')
    find_weights(source, pretrained)
    return width


def _find(model_name: str, cache_dir: str | None, space: str, tokens: str = 'last') -> tuple[CLIPSource, int]:
    """Find a model and the width of its tokens, or refuse one whose tokens cannot be targets."""
    if space not in ('joint', 'hidden'):
        raise ValueError(f"space={space!r} is neither 'joint' nor 'hidden'")
    source = find_clip(model_name, cache_dir)
    with torch.device('meta'):
        visual: Any = source.build()
    trunk = getattr(visual, 'trunk', None)
    kind = f'its vision branch is a {"timm " if trunk else ""}{type(trunk or visual).__name__}'
    lacks = ''
    if getattr(trunk or visual, 'attn_pool', None) is not None:
        lacks = f'pools its patch tokens by attention, so none of them lives in the joint space ({kind})'
    elif trunk is not None and getattr(trunk, 'cls_token', None) is None:
        lacks = f'has no CLS and patch tokens in one space ({kind} without CLS token)'
    elif trunk is None and not hasattr(visual, 'class_embedding'):
        lacks = f'has no patch tokens ({kind})'
    elif trunk is None and len(set(visual.patch_size)) > 1:
        lacks = f'has patches of {visual.patch_size} pixels: expected squares'
    if lacks:
        raise ValueError(
            f'{model_name} {lacks}: use an open_clip vision transformer with a CLS token, such as '
            'ViT-B-16-quickgelu, or TimmTargetGenerator for timm networks'
        )
    if tokens != 'last':
        require_cleanable(_blocks(visual)[-1], tokens)
    encode = partial(_tokens, space=space)
    _, found = probe(encode, visual, _patch_size(visual), visual.image_size, model_name)
    return source, found.shape[-1]


def _blocks(visual: Any) -> nn.ModuleList:
    return visual.trunk.blocks if hasattr(visual, 'trunk') else visual.transformer.resblocks


def _patch_size(visual: Any) -> int:
    return visual.trunk.patch_embed.feat_ratio() if hasattr(visual, 'trunk') else visual.patch_size[0]


@torch.no_grad()
def _fold_quick_gelu(visual: nn.Module) -> None:
    """Run QuickGELU, ``x sigmoid(1.702 x)``, as one kernel: ``silu(y) / 1.702`` of ``y = 1.702 x``.

    The factors go into the weights around it, in float32; open_clip's own takes three passes, two buffers.
    """
    for module in visual.modules():
        mlp: Any = getattr(module, 'mlp', None)
        if isinstance(getattr(mlp, 'gelu', None), QuickGELU):
            mlp.c_fc.weight.mul_(QUICK_GELU_FACTOR)
            mlp.c_fc.bias.mul_(QUICK_GELU_FACTOR)
            mlp.c_proj.weight.div_(QUICK_GELU_FACTOR)
            mlp.gelu = nn.SiLU(inplace=True)


def _tokens(
    visual: Any, images: Tensor, grid: Grid, space: str, variant: str = 'last', clean_cls: bool = True
) -> Tensor:
    if not hasattr(visual, 'trunk'):
        tokens = _open_clip_tokens(visual, images, grid, variant, clean_cls)
        return tokens @ visual.proj if space == 'joint' else tokens
    trunk = visual.trunk
    tokens = trunk.forward_features(images)
    tokens = torch.cat([tokens[:, :1], tokens[:, trunk.num_prefix_tokens :]], dim=1)
    tokens = trunk.fc_norm(_mean_first(tokens) if trunk.global_pool == 'avg' else tokens)
    return visual.head(trunk.head(tokens)) if space == 'joint' else tokens


def _open_clip_tokens(visual: Any, images: Tensor, grid: Grid, variant: str, clean_cls: bool) -> Tensor:
    tokens = embed_patches(images, visual.conv1).flatten(1, 2)
    cls = visual.class_embedding.to(tokens.dtype).expand(len(tokens), 1, -1)
    tokens = visual.ln_pre(torch.cat([cls, tokens], dim=1) + _positions(visual, grid))
    if variant == 'last':
        return _normed(visual, visual.transformer(tokens))
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    cleaned = _normed(visual, cleaned_block(last, tokens, grid, variant))
    if clean_cls:
        return cleaned
    return torch.cat([_normed(visual, last(tokens))[:, :1], cleaned[:, 1:]], dim=1)


def _normed(visual: Any, tokens: Tensor) -> Tensor:
    if visual.pool_type != 'avg':
        return visual.ln_post(tokens)
    if visual.final_ln_after_pool:
        return visual.ln_post(_mean_first(tokens))
    return _mean_first(visual.ln_post(tokens))


def _mean_first(tokens: Tensor) -> Tensor:
    return torch.cat([tokens[:, 1:].mean(1, keepdim=True), tokens[:, 1:]], dim=1)


def _positions(visual: Any, grid: Grid) -> Tensor:
    positions, own_grid = visual.positional_embedding, tuple(visual.grid_size)
    if grid == own_grid:
        return positions
    patches = positions[1:].float().T.unflatten(1, own_grid)[None]
    patches = F.interpolate(patches, grid, mode='bicubic', antialias=True)[0].flatten(1).T
    return torch.cat([positions[:1], patches.to(positions.dtype)])
