"""The student to export: an image encoder and, if there is one, the linear classifier of its features.

Shape legend: B batch, (H, W) image in pixels, (h, w) patch grid, L = h * w + 1 tokens, CLS first, C width.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmpretrain.registry import DATASETS, MODELS
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from ..engine.config import read_config
from ..models.backbones.attention import qkv_bias
from ..models.follow_checkpoint import follow_checkpoint
from ..models.speaking.speaking_student import NECK
from ..models.speaking.speaks import projected
from ..models.speaking.speech import WEIGHTS, Speech, heads_told
from ..models.student import student_of
from ..weights.bias_tables import INDEX
from ..weights.fill_model import fill_whole
from ..weights.fit_positions import Positioned
from ..weights.infer_arch import infer_arch
from ..weights.load import fill
from ..weights.locate import local_path
from ..weights.read import (
    BACKBONE,
    dotted,
    read_checkpoint,
    record_grid,
    renamed,
    require_finite,
    tensors_by_name,
)
from ..zoo.hub import published_speech

# Names of a linear classifier in files of this package and mmpretrain, Microsoft and timm, and transformers.
CLASSIFIERS = ('head.fc', 'head', 'classifier')


class ExportedStudent(nn.Module):
    """A trained student with the outputs by which an export is compared, in eval mode and float32.

    Built from the registered ``type`` (default ``'MVPViT'``) and arguments of an encoder
    (:class:`~mvp_mm.models.student.Student`); ``head`` classifies its pooled features.
    """

    # Of the training images, RGB, 0-1.
    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN
    std: Sequence[float] = IMAGENET_DEFAULT_STD
    classes: Sequence[str] | None = None  # the head's, if known
    speech: Speech | None = None  # with `neck`, the projection into its teacher's joint space
    neck: nn.Module | None

    def __init__(self, config: dict[str, Any], head: nn.Linear | None = None) -> None:
        super().__init__()
        self.config = {'type': 'MVPViT', **config}
        build = MODELS.get(self.config['type'])
        if build is None:
            raise ValueError(f'there is no model {self.config["type"]!r} in the registry')
        self.encoder: Any = student_of(build(**{k: value for k, value in self.config.items() if k != 'type'}))
        self.can_resize = isinstance(self.encoder, Positioned)
        self.head, self.neck = head, None
        self.eval().requires_grad_(False)

    @cached_property
    def arch(self) -> dict[str, Any]:
        """:func:`infer_arch` with its inner dict laid flat; empty if it has not a BEiT's or ViT's names."""
        state = self.encoder.state_dict()
        heads = getattr(self.encoder, 'arch_settings', {}).get('num_heads')
        known = 'layers.0.attn.qkv.weight' in state and heads is not None
        facts = infer_arch(state, 'the student', num_heads=heads) if known else {}
        return facts | facts.get('arch', {})

    @property
    def is_plain(self) -> bool:
        """Whether it is a ViT and no BEiT: absolute positions, and a bias on query, key and value or none."""
        return self._is_absolute and self.arch['bias'] != 'qv_bias'

    @property
    def _is_absolute(self) -> bool:
        tables = self.arch['use_rel_pos_bias'] or self.arch['use_shared_rel_pos_bias']
        return self.arch['use_abs_pos_emb'] and not tables

    @property
    def img_size(self) -> tuple[int, int]:
        """Size (H, W) that its positions belong to."""
        return self.encoder.img_size

    @property
    def grid(self) -> tuple[int, int]:
        """Patch grid (h, w) of :attr:`img_size`."""
        return self.img_size[0] // self.encoder.patch_size, self.img_size[1] // self.encoder.patch_size

    @property
    def pooling(self) -> str | None:
        """``'avg'`` if the features are the normed mean of the patches, ``'token'`` for CLS, ``'own'`` if the
        encoder pools in its own way (:class:`.TimmStudent`), else None."""
        if getattr(self.encoder, 'out_type', None) == 'pooled':
            return 'own'
        if hasattr(self.encoder, 'ln2'):
            return 'avg'
        has_cls = getattr(self.encoder, 'cls_token', None) is not None
        return 'token' if has_cls and getattr(self.encoder, 'final_norm', False) else None

    @property
    def eps(self) -> float:
        """Epsilon of the norms."""
        return next((norm.eps for norm in self.encoder.modules() if isinstance(norm, nn.LayerNorm)), 1e-5)

    def images(self, batch: int, size: tuple[int, int]) -> Tensor:
        """Return random images ``(batch, channels, H, W)``."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(batch, self.arch.get('in_channels', 3), *size, generator=generator)

    def weights(self, prefix: str = '', index: bool = True) -> OrderedDict[str, Tensor]:
        """Return a copy of the encoder's weights that records their grid, with index buffers if ``index``."""
        state = self.encoder.state_dict(prefix=prefix)
        kept = {name: value.clone() for name, value in state.items() if index or not name.endswith(INDEX)}
        return self.with_grid(kept, prefix)

    def with_grid(self, weights: Mapping[str, Tensor], prefix: str = '') -> OrderedDict[str, Tensor]:
        """Return weights under any names that record the student's patch grid."""
        weights = renamed(weights, str)
        record_grid(weights, self.grid, prefix)
        return weights

    def head_weights(self, prefix: str) -> dict[str, Tensor]:
        """Return the classifier's weights behind a prefix; nothing without a classifier."""
        return {} if self.head is None else self.head.state_dict(prefix=prefix)

    def rebuilt(self, state: Mapping[str, Tensor] | None = None, /, **changes: Any) -> 'ExportedStudent':
        """Return the weights, or others, in another encoder; what that has no place for is dropped."""
        if not self.can_resize:
            raise ValueError('this student has one size: leave the image size out')
        other = ExportedStudent({**self.config, **changes}, self.head)
        other.mean, other.std, other.classes = self.mean, self.std, self.classes
        other.speech, other.neck = self.speech and replace(self.speech, backbone=other.config), self.neck
        keys = other.encoder.load_state_dict(state or self.encoder.state_dict(), strict=False)
        missing = [name for name in keys.missing_keys if not name.endswith(INDEX)]
        if missing:
            raise ValueError(f'a student without {missing[0]} cannot be rebuilt with {changes}')
        return other

    def with_key_bias(self) -> 'ExportedStudent':
        """Return a ViT whose query and value alone have a bias, as RILS's, with one of zeros for the key.

        It is the same network, and in all libraries a plain ViT.
        """
        if not (self.can_resize and self.arch and self.arch['bias'] == 'qv_bias' and self._is_absolute):
            return self
        state = OrderedDict(self.encoder.state_dict())
        for start in [name.removesuffix('q_bias') for name in state if name.endswith('attn.q_bias')]:
            state[f'{start}qkv.bias'] = qkv_bias(state[f'{start}q_bias'], state[f'{start}v_bias'])
        return self.rebuilt(state, bias=True)

    def downstream(self) -> 'ExportedStudent':
        """Return it with one bias table per block and no mask token, as libraries have BEiT downstream."""
        if self.arch['use_shared_rel_pos_bias']:
            return self.rebuilt(use_shared_rel_pos_bias=False, use_rel_pos_bias=True, with_mask_token=False)
        return self.rebuilt(with_mask_token=False) if self.arch['with_mask_token'] else self

    def forward(self, images: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``tokens`` ``(B, L, C)`` and what it has of ``features`` ``(B, C)``, ``logits``,
        ``cls_embedding`` ``(B, D)`` and ``patch_embeddings`` ``(B, h * w, D)``, which are not normalised."""
        if self.pooling == 'own':
            cls, patches, pooled = self.encoder.encode_pooled(images)
        else:
            cls, patches = self.encoder.encode_image(images, mask)
            pooled = self.encoder.ln2(patches.mean(dim=1)) if self.pooling == 'avg' else cls
        outs = {'tokens': patches if cls is None else torch.cat([cls[:, None], patches], dim=1)}
        if self.pooling:
            outs['features'] = pooled
        if self.head is not None:
            outs['logits'] = self.head(outs['features'])
        if self.neck is not None:
            if hasattr(self.encoder, 'head_tokens'):
                cls, patches = self.encoder.head_tokens(images)
            cls, patches = projected(self.neck, cls, patches)
            outs |= {'patch_embeddings': patches} | ({} if cls is None else {'cls_embedding': cls})
        return outs

    def feature_maps(self, images: Tensor) -> Tensor:
        """Return the patch tokens of every block, ``(B, blocks, C, h, w)``."""
        grid = tuple(-(-side // self.encoder.patch_size) for side in images.shape[-2:])
        blocks = [tokens[:, -grid[0] * grid[1] :] for _, tokens in self.encoder.blockwise(images)]
        return torch.stack([patches.transpose(1, 2).unflatten(2, grid) for patches in blocks], dim=1)


def every_other_patch(images: Tensor, patch_size: int) -> Tensor:
    """Return a mask ``(B, h, w)`` like a chessboard."""
    rows, cols = (torch.arange(side // patch_size) for side in images.shape[-2:])
    return ((rows[:, None] + cols) % 2 == 0).expand(len(images), -1, -1)


def load_student(
    checkpoint: str,
    config: str | None = None,
    img_size: tuple[int, int] | None = None,
    prefix: str | None = None,
) -> tuple[ExportedStudent, list[str]]:
    """Read a student from a weight file, and what the reader should know about it, in sentences.

    The arguments are those of :func:`~mvp_mm.export.export`. Without a config the architecture is read off
    the weights (see :func:`infer_arch`).
    """
    path = local_path(checkpoint)
    content = read_checkpoint(path)
    weights = tensors_by_name(content, checkpoint, prefix)
    notes, cfg = [], Config(dict(model=dict(backbone={})))
    speech = (Speech.of_file(path, content) or published_speech(path)) if prefix is None else None
    if config is None and speech is not None:
        student = ExportedStudent(speech.backbone)
        notes.append('The architecture is the one that the checkpoint tells.')
    elif config is None:
        student = ExportedStudent(infer_arch(weights, checkpoint, prefix, heads_told(content)))
        notes.append('The architecture was read off the weights; eps 1e-6 and GELU are assumed, as in BEiT.')
    else:
        cfg = read_config(config)
        if followed := follow_checkpoint(cfg.model.backbone, weights, prefix):
            notes.append(followed)
        try:
            backbone = cfg.model.backbone.to_dict()
            student = ExportedStudent({key: value for key, value in backbone.items() if key not in WEIGHTS})
        except ValueError as error:
            raise ValueError(f'the backbone of {cfg.filename} is not exported: {error}') from error
    statistics = vars(speech) if speech is not None else cfg.model.get('data_preprocessor') or {}
    for key in ('mean', 'std'):
        if statistics.get(key):
            setattr(student, key, [value / 255 for value in statistics[key]])
    inside = {name.removeprefix(dotted(prefix)): value for name, value in weights.items()}
    student.head = classifier_in(inside, student, checkpoint)
    grid = (cfg.model.backbone.get('init_cfg') or {}).get('grid')
    report = fill(student.encoder, weights, checkpoint, prefix, grid)
    notes += [line.strip() for line in str(report).splitlines()]
    head = {name.removeprefix(NECK): value for name, value in weights.items() if name.startswith(NECK)}
    if speech is not None and head:
        student.speech, neck = replace(speech, backbone=student.config), MODELS.build(speech.neck)
        fill_whole(neck, head, f'the head of {checkpoint}')
        student.neck = neck.eval().requires_grad_(False)
    if student.head is None:
        left = 'neck' if student.neck is None else 'head'
        own = dotted(prefix) or BACKBONE
        others = [name for name in weights if not name.startswith(own)]
        rest = sorted({name.split('.')[0] for name in others if 'head' in name or name.startswith(left)})
        notes += [f'Left out, as only the backbone is exported: {", ".join(rest)}.'] if rest else []
    else:
        student.classes = _class_names(content, cfg, student.head.out_features)
    student = student.with_key_bias()
    if img_size is not None:
        student = student.rebuilt(img_size=img_size)
        if student.img_size != tuple(img_size):
            raise ValueError(
                f'img_size={img_size}: expected multiples of the patch size, {student.encoder.patch_size}'
            )
    return student, notes


def _class_names(content: Any, cfg: Config, count: int) -> tuple[str, ...] | None:
    """Return the names of ``count`` classes that the checkpoint holds, or the config's datasets."""
    meta = content.get('meta') if isinstance(content, dict) else None
    meta = meta.get('dataset_meta') if isinstance(meta, dict) else None
    places = [meta] if isinstance(meta, dict) else []
    for loader in ('test_dataloader', 'val_dataloader', 'train_dataloader'):
        dataset = (cfg.get(loader) or {}).get('dataset') or {}
        kind = DATASETS.get(dataset.get('type') or 'none')
        places += [dataset, dataset.get('metainfo') or {}, getattr(kind, 'METAINFO', None) or {}]
    for names in [place.get('classes') for place in places]:
        names = list_from_file(names) if isinstance(names, str) and Path(names).is_file() else names
        if isinstance(names, list | tuple) and len(names) == count:
            return tuple(map(str, names))
    return None


def classifier_in(weights: dict[str, Tensor], student: ExportedStudent, source: str) -> nn.Linear | None:
    """Return the linear classifier in a file, if the student has the features that it classifies."""
    width = student.encoder.pooled_dims if student.pooling == 'own' else student.encoder.embed_dims
    for name in CLASSIFIERS if student.pooling else ():
        weight = weights.get(f'{name}.weight')
        if weight is not None and weight.ndim == 2 and weight.shape[1] == width:
            head = nn.Linear(weight.shape[1], weight.shape[0])
            bias = weights.get(f'{name}.bias', torch.zeros(len(weight)))
            require_finite({f'{name}.weight': weight, f'{name}.bias': bias}, source)
            head.load_state_dict(dict(weight=weight, bias=bias))
            return head.requires_grad_(False)
    return None
