"""What is exported: a backbone and, where there is one, the linear layer that classifies its features.

Shape legend: B batch, (H, W) image in pixels, (h, w) patch grid, L = h * w + 1 tokens with CLS first, C
width.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmpretrain.registry import DATASETS, MODELS
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from ..models.backbones.mvp_vit import MVPViT
from ..stack import quiet_stack_noise
from ..weights.bias_tables import INDEX
from ..weights.infer_arch import infer_arch
from ..weights.load import fill, local_path
from ..weights.read import dotted, read_checkpoint, record_grid, renamed, require_finite, tensors_by_name

# A linear classifier in this package's and mmpretrain's, Microsoft's and timm's, and transformers' files.
CLASSIFIERS = ('head.fc', 'head', 'classifier')


class Student(nn.Module):
    """A trained student with the outputs by which an export is compared, in eval mode and float32.

    Args:
        arguments: Those of :class:`MVPViT`.
        head: Classifier of the pooled features, or None.
        mean: Of the training images, RGB, 0-1.
        std: As ``mean``.
        classes: Names of the head's classes. Default None: not known.
    """

    def __init__(
        self,
        arguments: dict[str, Any],
        head: nn.Linear | None = None,
        mean: tuple[float, ...] = IMAGENET_DEFAULT_MEAN,
        std: tuple[float, ...] = IMAGENET_DEFAULT_STD,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.arguments = arguments
        self.vit = MVPViT(**arguments)
        # `forward` pools by itself, so the backbone gives all tokens of all blocks.
        self.vit.out_type = 'raw'
        self.vit.out_indices = tuple(range(self.vit.num_layers))
        self.head = head
        self.mean, self.std, self.classes = tuple(mean), tuple(std), classes
        self.eval().requires_grad_(False)

    @property
    def img_size(self) -> tuple[int, int]:
        """Size (H, W) that the bias tables belong to."""
        rows, cols = self.vit.window
        return rows * self.vit.patch_size, cols * self.vit.patch_size

    @property
    def has_mean_norm(self) -> bool:
        """Whether the features are the mean of the patches through a norm of its own (``ln2``)."""
        return hasattr(self.vit, 'ln2')

    @property
    def eps(self) -> float:
        """Epsilon of the norms."""
        return self.vit.layers[0].ln1.eps

    def with_grid(self, state: Mapping[str, Tensor], prefix: str = '') -> OrderedDict[str, Tensor]:
        """A state dict of the student, under any names, that records its patch grid.

        Args:
            state: Tensors by name.
            prefix: What the names of the backbone begin with.
        """
        state = renamed(state, str)
        record_grid(state, self.vit.window, prefix)
        return state

    def rebuilt(self, **changes: Any) -> 'Student':
        """The same weights in a backbone with other arguments, such as another ``img_size``.

        Tables are resized and a shared one is expanded where the arguments ask for it; what the other
        backbone has no place for is dropped.
        """
        other = Student({**self.arguments, **changes}, self.head, self.mean, self.std, self.classes)
        keys = other.vit.load_state_dict(self.vit.state_dict(), strict=False)
        missing = [name for name in keys.missing_keys if not name.endswith(INDEX)]
        if missing:
            raise ValueError(f'a student without {missing[0]} cannot be rebuilt with {changes}')
        return other

    def downstream(self) -> 'Student':
        """One bias table a block and no mask token, as every library has BEiT after pre-training."""
        if self.vit.rel_pos_bias is not None:
            return self.rebuilt(use_shared_rel_pos_bias=False, use_rel_pos_bias=True, with_mask_token=False)
        return self if self.vit.mask_token is None else self.rebuilt(with_mask_token=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What libraries can be compared by.

        Args:
            images: ``(B, 3, H, W)`` normalised, of any size.

        Returns:
            ``'tokens'`` ``(B, L, C)`` of the last block, after the final norm where there is one;
            ``'feature maps'`` ``(B, blocks, C, h, w)``; where the student has them ``'features'`` ``(B, C)``
            and ``'logits'``.
        """
        blocks = self.vit(images)
        tokens, grid = blocks[-1], self.grid(images)
        patches = [block[:, self.vit.num_extra_tokens :] for block in blocks]
        maps = [each.transpose(1, 2).unflatten(2, grid) for each in patches]
        outs = {'tokens': tokens, 'feature maps': torch.stack(maps, dim=1)}
        if self.has_mean_norm:
            outs['features'] = self.vit.ln2(patches[-1].mean(dim=1))
        elif self.vit.final_norm and self.vit.cls_token is not None:
            outs['features'] = tokens[:, 0]
        if self.head is not None:
            outs['logits'] = self.head(outs['features'])
        return outs

    def masked(self, images: Tensor) -> dict[str, Tensor]:
        """``'masked tokens'``: as ``'tokens'``, with every other patch masked; none without a mask token."""
        if self.vit.mask_token is None:
            return {}
        return {'masked tokens': self.vit(images, every_other_patch(images, self.vit.patch_size))[-1]}

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patch grid (h, w) of a batch of images."""
        return tuple(-(-side // self.vit.patch_size) for side in images.shape[-2:])


def every_other_patch(images: Tensor, patch_size: int) -> Tensor:
    """A mask ``(B, h, w)`` like a chessboard."""
    rows, cols = (side // patch_size for side in images.shape[-2:])
    board = (torch.arange(rows)[:, None] + torch.arange(cols)[None, :]) % 2 == 0
    return board.expand(len(images), rows, cols)


def load_student(
    checkpoint: str,
    config: str | None = None,
    img_size: tuple[int, int] | None = None,
    prefix: str | None = None,
) -> tuple[Student, list[str]]:
    """Read a student from any BEiT-family weight file.

    Args:
        checkpoint: A pre-training checkpoint as it is, a classifier, a segmentation model, a bare backbone;
            whatever ``model.backbone.init_cfg.checkpoint`` takes.
        config: The config whose ``model.backbone`` is wanted. Default None: the architecture is read off
            the weights (see :func:`infer_arch`).
        img_size: Size (H, W) for which the tables are resized. Default None: as they are.
        prefix: Which of several transformers in the file is wanted (see :func:`load_pretrained`). Default
            None: there is one, or one under ``backbone.``.

    Returns:
        The student, and what the reader should know about it, in sentences.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the file does not fit the config, or no architecture can be read off it.
    """
    content = read_checkpoint(local_path(checkpoint))
    weights = tensors_by_name(content, checkpoint, prefix)
    notes, normalisation, cfg = [], {}, None
    if config is None:
        arguments = infer_arch(weights, checkpoint, prefix)
        notes.append('The architecture was read off the weights; eps 1e-6 and GELU are assumed, as in BEiT.')
    else:
        cfg = _read_config(config)
        arguments, normalisation = _arguments_of(cfg)
    student = Student(arguments, **normalisation)
    inside = {name.removeprefix(dotted(prefix)): value for name, value in weights.items()}
    student.head = head = _classifier(inside, student.vit, checkpoint)
    grid = (cfg.model.backbone.get('init_cfg') or {}).get('grid') if cfg else None
    report = fill(student.vit, weights, checkpoint, prefix, grid)
    notes += [line.strip() for line in str(report).splitlines()]
    if head is None:
        rest = sorted({name.split('.')[0] for name in weights if 'head' in name or name.startswith('neck.')})
        notes += [f'Left out, as only the backbone is exported: {", ".join(rest)}.'] if rest else []
    else:
        student.classes = _class_names(content, cfg, head.out_features)
    if img_size is not None:
        student = student.rebuilt(img_size=img_size)
    return student, notes


def _read_config(config: str) -> Config:
    if not Path(config).is_file():
        raise FileNotFoundError(f'there is no config file {config}')
    with quiet_stack_noise():  # a config may import mmseg
        return Config.fromfile(config)


def _arguments_of(cfg: Config) -> tuple[dict[str, Any], dict[str, tuple[float, ...]]]:
    """Arguments of a config's backbone, and how it normalises images."""
    model = cfg.model
    arguments = model.backbone.to_dict()
    if MODELS.get(arguments.pop('type')) is not MVPViT:
        raise ValueError(f'the backbone of {cfg.filename} is no MVPViT: only its students are exported')
    arguments.pop('init_cfg', None)
    preprocessor = model.get('data_preprocessor') or {}
    given = [key for key in ('mean', 'std') if key in preprocessor]
    return arguments, {key: tuple(value / 255 for value in preprocessor[key]) for key in given}


def _class_names(content: Any, cfg: Config | None, count: int) -> tuple[str, ...] | None:
    """Names of ``count`` classes: those that the checkpoint was trained on, or of the config's dataset."""
    meta = content.get('meta') if isinstance(content, dict) else None
    meta = meta.get('dataset_meta') if isinstance(meta, dict) else None
    found = [meta.get('classes')] if isinstance(meta, dict) else []
    for loader in ('test_dataloader', 'val_dataloader', 'train_dataloader'):
        dataset = ((cfg or {}).get(loader) or {}).get('dataset') or {}
        found += [dataset.get('classes'), (dataset.get('metainfo') or {}).get('classes')]
        kind = DATASETS.get(dataset.get('type') or 'none')
        found.append((getattr(kind, 'METAINFO', None) or {}).get('classes'))
    for names in found:
        names = list_from_file(names) if isinstance(names, str) and Path(names).is_file() else names
        if isinstance(names, list | tuple) and len(names) == count:
            return tuple(map(str, names))
    return None


def _classifier(weights: dict[str, Tensor], vit: MVPViT, source: str) -> nn.Linear | None:
    """The linear classifier in a file, if the backbone gives the features that it classifies."""
    pools, width = hasattr(vit, 'ln2') or vit.final_norm, vit.embed_dims
    for name in CLASSIFIERS if pools else ():
        weight = weights.get(f'{name}.weight')
        if weight is not None and weight.ndim == 2 and weight.shape[1] == width:
            head = nn.Linear(weight.shape[1], weight.shape[0])
            bias = weights.get(f'{name}.bias')
            bias = torch.zeros(len(weight)) if bias is None else bias
            require_finite({f'{name}.weight': weight, f'{name}.bias': bias}, source)
            head.load_state_dict(dict(weight=weight, bias=bias))
            return head.requires_grad_(False)
    return None
