"""Targets from the vision branch of a CLIP model (paper §3.3.1, Eq. 7)."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from mmpretrain.registry import MODELS
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from ..backbones.multihead_attention import use_faster_attention
from ..compilation import require_choice
from ..speaking.text_tower import TextTower
from .base import CLS_TARGETS, Grid, TargetGenerator, choose_cls, network_errors, probe
from .cleaned_tokens import VARIANTS, require_cleanable
from .clip_tokens import CLIPTokens, clip_tokens, layers_of
from .clip_weights import (
    CONFIG_NAME,
    LOCAL,
    OPENAI,
    CLIPSource,
    clip_file,
    file_sha256,
    find_clip,
    find_weights,
    load_clip_text,
    load_clip_visual,
)

MODEL = 'ViT-B-16-quickgelu'  # the paper's, always B/16
HIDDEN = "its tokens are before the projection (space='hidden'), where no text is"
QUICK_GELU_FACTOR = 1.702  # OpenAI CLIP model.py


@MODELS.register_module()
class CLIPTargetGenerator(TargetGenerator):
    """CLS and patch tokens of any open_clip vision tower, in the joint image–text space if patches have one.

    open_clip returns patch tokens without the projection; here every token passes the final norm and the
    projection, so that patches live in the language space too. Towers that pool by attention (SigLIP, CoCa,
    PE-Core, CLIP's ResNets) have patch tokens before it only: ``space='hidden'``. Those of convolutional and
    hierarchical towers are their last map.

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
        cls: What the target of CLS is: ``'token'``; ``'pooled'``, the image embedding, or in ``'hidden'``
            what the projection projects; ``'none'``; or ``'auto'`` (default): what the tower makes its image
            embedding of, if that has the width of its tokens.
        cache_dir: Where downloads go. Default None: open_clip's own cache.
        teacher_mean, teacher_std: Channel statistics of the teacher's training images, 0–1 scale. Default
            None: the tag's, those of a config beside the file, of the model, of its tags, or OpenAI's.
        **kwargs: See :class:`TargetGenerator`.

    Raises:
        ValueError: If the model is unknown or has no patch tokens in that space (before any download of
            weights), or QuickGELU or the shapes of the weights do not fit.
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
        cls: str = 'auto',
        **kwargs,
    ) -> None:
        require_choice(tokens, 'tokens', VARIANTS)
        require_choice(cls, 'cls', ('auto', *CLS_TARGETS))
        self.space, self.tokens, self.clean_cls = space, tokens, clean_cls
        source, _, _ = _find(str(model_name), cache_dir, space, tokens, cls)
        visual: Any
        visual, (mean, std) = load_clip_visual(source, pretrained, quick_gelu, cache_dir)
        self._origin = (source, pretrained, cache_dir)
        self._given = dict(model_name=str(model_name), pretrained=pretrained, quick_gelu=quick_gelu)
        self._given |= dict(space=space, tokens=tokens, clean_cls=clean_cls)
        _fold_quick_gelu(visual)
        self._reader = clip_tokens(visual)
        use_faster_attention(visual)
        super().__init__(
            teacher=visual,
            teacher_patch_size=self._reader.patch_size,
            teacher_image_size=self._reader.image_size,
            teacher_mean=mean if teacher_mean is None else teacher_mean,
            teacher_std=std if teacher_std is None else teacher_std,
            can_resize_input=self._reader.can_resize,
            cls=self._reader.choices[0] if cls == 'auto' else cls,
            **kwargs,
        )

    def check(self, images: Tensor, tokens: Tensor) -> None:
        """Require that entry 0 is open_clip's own image embedding."""
        if self.space == 'hidden':
            return
        if self.tokens != 'last' or self.cls != self._reader.choices[0]:
            grid = tuple(side // self.teacher_patch_size for side in images.shape[-2:])
            embedding = self._reader.choices[0]
            tokens = self._reader.encode(self.teacher, images, (grid[0], grid[1]), 'joint', embedding)
        if not torch.allclose(tokens[:, 0], self.teacher(images), rtol=1e-3, atol=1e-4):
            raise ValueError(
                'the image embedding of this open_clip model is not its projected CLS token or mean '
                "patch token, so its patch tokens are not in the joint space: use space='hidden'"
            )

    def identity(self) -> dict[str, Any]:
        """Tell this teacher from others, with the sha256 of its weight file (None: random weights)."""
        path = clip_file(*self._origin)
        return super().identity() | dict(sha256=path and file_sha256(path))

    @cached_property
    def text_tower(self) -> TextTower:
        """The text tower of the weight file, loaded when first asked for; needs ``space='joint'``."""
        if self.space != 'joint':
            raise ValueError(f'this CLIP cannot speak: {HIDDEN}')
        return load_clip_text(*self._origin)

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

        Entry 0 is the image embedding: the CLS token, or the mean patch token if the model pools so; see
        ``cls``.
        """
        return self._reader.encode(teacher, images, grid, self.space, self.cls, self.tokens, self.clean_cls)

    def attention_module(self, teacher: nn.Module) -> nn.Module | None:
        blocks = self.blocks(teacher) if self._reader.has_cls else []
        return getattr(blocks[-1], 'attn', None) if blocks else None

    def blocks(self, teacher: nn.Module) -> list:
        return layers_of(teacher)


def clip_width(model_name: str, pretrained: str | bool | None, space: str = 'joint') -> int:
    """Return the width of :class:`CLIPTargetGenerator`'s targets without reading weights.

    Arguments and errors are those of the class; the tag or the weight file must exist.
    """
    source, _, width = _find(model_name, None, space)
    find_weights(source, pretrained)
    return width


def clip_space(model_name: str, pretrained: str | bool | None) -> tuple[str, int]:
    """Return the joint space, or where patches have none the hidden one, and the width of its tokens.

    Arguments and errors are those of :func:`clip_width`.
    """
    source, reader, width = _find(model_name, None, 'hidden')
    find_weights(source, pretrained)
    return ('hidden', width) if reader.no_joint else ('joint', source.config['embed_dim'])


def clip_reader(model_name: str, space: str = 'joint') -> tuple[CLIPTokens, int]:
    """Tell how an open_clip model's tokens are read, and their width; errors are those of the class."""
    return _find(model_name, None, space)[1:]


def _find(
    model_name: str, cache_dir: str | None, space: str, tokens: str = 'last', cls: str = 'auto'
) -> tuple[CLIPSource, CLIPTokens, int]:
    """Find a model, the reader of its tokens and their width, or refuse one whose cannot be targets."""
    require_choice(space, 'space', ('joint', 'hidden'))
    source = find_clip(model_name, cache_dir)
    with torch.device('meta'):
        visual: Any = source.build()
    with network_errors(f'{model_name} ', ': use an open_clip model whose vision tower has a map'):
        reader = clip_tokens(visual)
    if space == 'joint' and reader.no_joint:
        kind = type(getattr(visual, 'trunk', visual)).__name__
        raise ValueError(
            f"{model_name} {reader.no_joint} (its vision branch is a {kind}): use space='hidden', its patch "
            'tokens before the pooling, or a model that takes CLS or the mean, such as ViT-B-16-quickgelu'
        )
    choose_cls(cls, reader.choices, model_name)
    if tokens != 'last':
        if reader.no_joint:
            raise ValueError(f'tokens={tokens!r} is not possible for {model_name}, which {reader.no_joint}')
        require_cleanable([visual, *layers_of(visual)][-1], tokens)
    encode = partial(reader.encode, space=space, cls='none')
    _, found = probe(encode, visual, reader.patch_size, reader.image_size, model_name, 0, reader.can_resize)
    return source, reader, found.shape[-1]


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
