"""A model that is looked into: its student, how the student's images are normalised, and its teacher."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..engine import apply_options
from ..models import MVPViT, TargetGenerator
from ..weights.load import load_pretrained
from ..zoo.hub import get_model, model_config

NO_TEACHER = '{} has no teacher: only the pre-training configs of MVP have a target_generator'
RANDOM = 'random'  # in the place of a checkpoint
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
# mmpretrain's plain transformers, whose parameters an MVPViT with absolute positions holds under their names.
PLAIN = ('MAEViT', 'VisionTransformer')


@dataclass
class ViewedModel:
    """What is needed to look into a model.

    Args:
        title: What the pictures call it.
        vit: The student, in eval mode.
        mean: Channel means its images are normalised by, RGB, 0–255 scale.
        std: Standard deviations alike.
        teacher: The target generator, or None.
        teacher_title: What the pictures call it.
    """

    title: str
    vit: MVPViT
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    teacher: TargetGenerator | None = None
    teacher_title: str = 'teacher'

    @property
    def side(self) -> int:
        """Short side in pixels of the images it was built for."""
        return min(self.vit.window) * self.vit.patch_size

    def normalised(self, pixels: Tensor) -> Tensor:
        """``(B, 3, H, W)`` on the 0–255 scale to what the student takes, on its device."""
        device = self.vit.patch_embed.projection.weight.device
        mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (self.mean, self.std))
        return (pixels.to(mean) - mean) / std


def view_models(
    given: Sequence[Sequence[str]],
    with_teachers: bool = False,
    cfg_options: dict | None = None,
    device: str | torch.device = 'cpu',
) -> list[ViewedModel]:
    """Models as a command line names them.

    Args:
        given: For each model its name (see ``mvp_mm.list_models``) or config file, its checkpoint, and its
            title. Without a checkpoint it is the published one; ``'random'`` is none. Without a title it
            is the name, with the checkpoint's where two models have the same.
        with_teachers: Look at the teachers too, of those that have one; a teacher that several share is
            looked at once.
        cfg_options: Config values to override, by dotted key, where a checkpoint is given.
        device: Where they run.

    Raises:
        FileNotFoundError: If a weight file cannot be had.
        ValueError: If a name is unknown, a checkpoint does not fit, or no model has a teacher where
            teachers are wanted.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # of a torch without CUDA
        raise ValueError(f'device {device!r} cannot be used: {str(error).splitlines()[0]}') from error
    viewed, seen = [], []
    for words, title in zip(given, _titles(given), strict=True):
        name, checkpoint = words[0], (words[1] if len(words) > 1 else None)
        cfg = model_config(name)
        if cfg_options:
            apply_options(cfg, cfg_options)
        if 'model' not in cfg:
            raise ValueError(f'{name} has no model')
        teacher = cfg.model.get('target_generator')
        with_teacher = with_teachers and teacher is not None and teacher not in seen
        if with_teacher:
            seen.append(teacher)
        if checkpoint is None:
            viewed.append(view_model(_published(name), title, with_teacher, device))
        else:
            weights = None if checkpoint == RANDOM else checkpoint
            viewed.append(view_config(cfg, weights, title, with_teacher, device))
    if with_teachers and not seen:
        raise ValueError(NO_TEACHER.format(viewed[0].title))
    return viewed


def _published(name: str) -> nn.Module:
    try:
        return get_model(name, pretrained=True)
    except ValueError as error:
        raise ValueError(f'{error}. Name a checkpoint after the model, or {RANDOM!r} for none') from error


def _titles(given: Sequence[Sequence[str]]) -> list[str]:
    for words in given:
        if not 1 <= len(words) <= 3:
            raise ValueError(
                f'a model is NAME_OR_CONFIG [CHECKPOINT [TITLE]], got {" ".join(words)}: quote a title of '
                'several words, and put images first'
            )
    names = [Path(words[0]).stem if words[0].endswith('.py') else words[0] for words in given]
    titles = []
    for words, name in zip(given, names, strict=True):
        if len(words) == 3:
            titles.append(words[2])
        elif len(words) == 2 and (names.count(name) > 1 or words[1] == RANDOM):
            path = Path(words[1])
            titles.append(f'{name} {"/".join(part for part in (path.parent.name, path.stem) if part)}')
        else:
            titles.append(name)
    return titles


def view_config(
    cfg: Config,
    checkpoint: str | None,
    title: str,
    with_teacher: bool = False,
    device: str | torch.device = 'cpu',
) -> ViewedModel:
    """Build and fill what a config calls its backbone, and no more of it than is looked at.

    Args:
        cfg: Any config whose backbone is an ``MVPViT``, or mmpretrain's ``MAEViT`` or plain
            ``VisionTransformer``, which become the same network as an ``MVPViT``; not changed.
        checkpoint: A pre-training or downstream checkpoint as it is, or a bare backbone, file or address
            (see :func:`load_pretrained`); None for random weights.
        title: What the pictures call it.
        with_teacher: Build the config's target generator too, which loads the teacher's weights.
        device: Where it runs.

    Raises:
        FileNotFoundError: If a weight file cannot be had.
        ValueError: If the backbone is of another kind, the checkpoint does not fit, or a teacher is asked
            for where the config has none.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    if with_teacher and 'target_generator' not in cfg.model:
        raise ValueError(NO_TEACHER.format(title))
    vit = build_student(cfg.model.get('backbone', {}), title)
    if checkpoint is not None:
        init_cfg = cfg.model.backbone.get('init_cfg') or {}
        load_pretrained(vit, checkpoint, init_cfg.get('prefix'), init_cfg.get('grid'))
    teacher = MODELS.build(copy.deepcopy(cfg.model.target_generator)) if with_teacher else None
    return _viewed(cfg, vit, teacher, title, device)


def view_model(
    model: nn.Module, title: str, with_teacher: bool = False, device: str | torch.device = 'cpu'
) -> ViewedModel:
    """Look into a model that is built and filled, such as one of ``mvp_mm.get_model``.

    Args:
        model: With a ``backbone`` and its config as ``cfg``.
        title: What the pictures call it.
        with_teacher: Look at its target generator too.
        device: Where it runs.

    Raises:
        ValueError: If its backbone is no ``MVPViT``, or it has no teacher where one is asked for.
    """
    if not isinstance(model.backbone, MVPViT):
        raise ValueError(_other_kind(type(model.backbone).__name__, title))
    teacher = getattr(model, 'target_generator', None) if with_teacher else None
    if with_teacher and teacher is None:
        raise ValueError(NO_TEACHER.format(title))
    return _viewed(model.cfg, model.backbone, teacher, title, device)


def _viewed(
    cfg: Config, vit: MVPViT, teacher: TargetGenerator | None, title: str, device: str | torch.device
) -> ViewedModel:
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    viewed = ViewedModel(
        title,
        vit.to(device).eval().requires_grad_(False),
        tuple(preprocessor.get('mean') or IMAGENET_MEAN),
        tuple(preprocessor.get('std') or IMAGENET_STD),
    )
    if teacher is not None:
        viewed.teacher = teacher.to(device)
        config = cfg.model.target_generator
        name = Path(config.get('model_name', config.type)).name.removesuffix('.json')
        viewed.teacher_title = f'teacher {name}'
    return viewed


def build_student(backbone: dict, title: str) -> MVPViT:
    """An ``MVPViT`` from the config of a backbone, with random weights.

    Raises:
        ValueError: If that backbone is no ``MVPViT`` and no plain transformer of mmpretrain's.
    """
    if 'type' not in backbone:
        raise ValueError(f'{title} has no backbone to look into')
    backbone = {**copy.deepcopy(backbone), 'init_cfg': None}
    kind = backbone['type'].rpartition('.')[2]
    if kind == 'MVPViT':
        return MVPViT(**{key: value for key, value in backbone.items() if key != 'type'})
    if kind in PLAIN and not backbone.get('pre_norm') and not backbone.get('layer_scale_init_value'):
        return _plain_student(MODELS.build({**backbone, 'type': f'mmpretrain.{kind}'}), backbone)
    raise ValueError(_other_kind(kind, title))


def _plain_student(plain: nn.Module, backbone: dict) -> MVPViT:
    vit = MVPViT(
        arch=plain.arch_settings,
        img_size=backbone.get('img_size', 224),
        patch_size=backbone.get('patch_size', 16),
        norm_cfg=backbone.get('norm_cfg', dict(type='LN', eps=1e-6)),
        bias=backbone.get('qkv_bias', True),
        final_norm=plain.final_norm,
        out_type='raw',
        with_cls_token=plain.cls_token is not None,
        use_abs_pos_emb=True,
        use_rel_pos_bias=False,
        interpolate_mode=plain.interpolate_mode,
        layer_scale_init_value=0,
        patch_cfg=backbone.get('patch_cfg', {}),
    )
    # What an untrained one starts from, too.
    vit.load_state_dict(plain.state_dict())
    return vit


def _other_kind(kind: str, title: str) -> str:
    return (
        f"{title} has a {kind} as its backbone, but only MVPViT and mmpretrain's plain "
        f'{" and ".join(PLAIN)} can be looked into: take a config that loads its weights into an MVPViT, as '
        'those in configs/upernet do for BEiT, MAE, DINO, MaskFeat and CAE'
    )
