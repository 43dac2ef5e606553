"""A model to look into: its student, how the student's images are normalised, and its teacher."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor
from torchvision.transforms.functional import normalize

from ..engine import apply_options
from ..models import TargetGenerator
from ..models.backbones.plain_vit import as_student
from ..models.follow_checkpoint import follow_first_readable
from ..models.target_generators.base import IMAGENET_MEAN, IMAGENET_STD
from ..weights.load import load
from ..zoo.hub import download_weights, model_config

RANDOM = 'random'  # in the place of a checkpoint


@dataclass
class ViewedModel:
    """A student in eval mode, with what pictures need beside it."""

    title: str  # its name in the pictures
    student: Any  # a Student; blockwise and num_layers, as of MVPViT, show attention and inner layers too
    mean: Sequence[float] = IMAGENET_MEAN  # its images are normalised by: RGB, 0–255 scale
    std: Sequence[float] = IMAGENET_STD
    teachers: dict[str, TargetGenerator] = field(default_factory=dict)  # by their names in the pictures

    @property
    def side(self) -> int:
        """Short side in pixels of the images it was built for."""
        return min(self.student.img_size)

    @property
    def teacher(self) -> TargetGenerator | None:
        """The teacher, the first one of several; None without."""
        return next(iter(self.teachers.values()), None)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Normalise ``(B, 3, H, W)`` on the 0–255 scale for the student, on its device."""
        device = next(self.student.parameters()).device
        return normalize(pixels.to(device, torch.float32), list(self.mean), list(self.std))


def view_models(
    given: Sequence[Sequence[str]],
    with_teachers: bool = False,
    cfg_options: dict | None = None,
    device: str | torch.device = 'cpu',
) -> list[ViewedModel]:
    """Build models as a command line names them: their backbones, and their teachers if asked for.

    Args:
        given: For each model its name (see ``mvp_mm.list_models``) or config file, its checkpoint, and its
            title. The checkpoint is one of pre-training, of a downstream task or of a bare backbone, or
            ``'random'`` for none; default: the published one. The title is by default the name, with the
            checkpoint's where two models have the same.
        with_teachers: Build the teachers too, where there are any; one that several share is built once.
        cfg_options: Config values to override, by dotted key.
        device: Where they run.

    Raises:
        FileNotFoundError: If a weight file cannot be had.
        ValueError: If a name is unknown, a backbone no student, a checkpoint unfit, or there is no teacher.
    """
    viewed: list[ViewedModel] = []
    teachers: list[dict] = []
    for words, title in zip(given, _titles(given), strict=True):
        cfg = model_config(words[0])
        if cfg_options:
            apply_options(cfg, cfg_options)
        if 'type' not in cfg.get('model', {}).get('backbone', {}):
            raise ValueError(f'{title} has no backbone to look into')
        checkpoint = words[1] if len(words) > 1 else _published(words[0])
        init_default_scope(cfg.get('default_scope', 'mmpretrain'))
        init_cfg = cfg.model.backbone.get('init_cfg') or {}
        sources = [] if checkpoint == RANDOM else [checkpoint]
        follow_first_readable(cfg.model.backbone, sources, init_cfg.get('prefix'))
        student = as_student(MODELS.build({**copy.deepcopy(cfg.model.backbone), 'init_cfg': None}))
        if checkpoint != RANDOM:
            load(student, checkpoint, init_cfg.get('prefix'), init_cfg.get('grid'))
        student = student.to(device).eval().requires_grad_(False)
        preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
        statistics = {name: preprocessor[name] for name in ('mean', 'std') if preprocessor.get(name)}
        model = ViewedModel(title, student, **statistics)
        generator = cfg.model.get('target_generator')
        if with_teachers and generator is not None and generator not in teachers:
            teachers.append(generator)
            built = MODELS.build(copy.deepcopy(generator)).to(device)
            for name, teacher in getattr(built, 'teachers', {'': built}).items():
                config = generator.teachers[name] if name else generator
                name = Path(config.get('model_name', config.type)).name.removesuffix('.json')
                model.teachers[f'teacher {name}'] = teacher
        viewed.append(model)
    if with_teachers and not teachers:
        raise ValueError(f'{viewed[0].title} has no teacher: only the pre-training configs of MVP have one')
    return viewed


def _published(name: str) -> str:
    try:
        return str(download_weights(name))
    except ValueError as error:
        raise ValueError(f'{error}. Name a checkpoint after the model, or {RANDOM!r} for none') from error


def _titles(given: Sequence[Sequence[str]]) -> list[str]:
    for words in given:
        if not 1 <= len(words) <= 3:
            raise ValueError(
                f'a model is NAME_OR_CONFIG [CHECKPOINT [TITLE]], got {" ".join(words)}: quote a title of '
                'several words, and put images first'
            )
    names = [words[0] if not words[0].endswith('.py') else Path(words[0]).stem for words in given]
    titles = []
    for words, name in zip(given, names, strict=True):
        if len(words) == 2 and (names.count(name) > 1 or words[1] == RANDOM):
            name += ' ' + '/'.join(Path(words[1]).with_suffix('').parts[-2:])
        titles.append(words[2] if len(words) == 3 else name)
    return titles
