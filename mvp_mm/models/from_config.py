"""Build a model from a config and a weight file, for use in Python."""

import copy
import logging
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..weights.fill_model import fill_whole
from ..weights.fit_positions import Positioned
from ..weights.load import Adapting, fill, load
from ..weights.locate import local_path
from ..weights.read import read_tensors
from .follow_checkpoint import follow_checkpoint
from .prompts import load_prompts
from .target_generators.teacher_weights import fill_strictly


def build_from_config(
    cfg: Config, checkpoint: str | None = None, head: bool = True, whole: bool = False
) -> nn.Module:
    """Build a config's model, fill it, and set MMEngine's default scope to the config's.

    Args:
        cfg: Not changed. Only ``prefix`` and ``grid`` of its ``model.backbone.init_cfg`` are used.
        checkpoint: File or address of a checkpoint of the whole model, or, for ``MVPViT``, whatever
            ``model.backbone.init_cfg.checkpoint`` takes; None leaves the initialisation.
        head: Fill the head as well, if the file has one. False: features only, of a model of other classes.
        whole: Refuse a file that fills the backbone only.

    Returns:
        The model in eval mode, with ``cfg`` and, for segmentation, ``dataset_meta`` (classes and palette), as
        the functions of mmpretrain and mmseg expect.
    """
    cfg = _prepared(cfg)
    init_cfg = cfg.model.backbone.get('init_cfg') or {}
    cfg.model.backbone.init_cfg = None
    if checkpoint is not None:
        weights = read_tensors(local_path(checkpoint), init_cfg.get('prefix'))
        if followed := follow_checkpoint(cfg.model.backbone, weights, init_cfg.get('prefix')):
            print_log(followed, 'current')
    model = MODELS.build(cfg.model)
    backbone: nn.Module = model.backbone
    if checkpoint is not None:
        others = [name for name in model.state_dict() if not name.startswith('backbone.')]
        has_others = head and any(name in weights for name in others)
        if whole or has_others or not isinstance(backbone, Positioned | Adapting):
            fill_whole(model, weights, checkpoint, without=None if head else 'head')
        else:
            fill(backbone, weights, checkpoint, init_cfg.get('prefix'), init_cfg.get('grid'))
            if head and others:
                parts = ', '.join(dict.fromkeys(name.split('.')[0] for name in others))
                told = f'{checkpoint} fills the backbone; these keep their initialisation: {parts}'
                print_log(told, 'current', level=logging.WARNING)
    if cfg.get('default_scope') == 'mmseg':
        dataset = cfg.test_dataloader.dataset
        model.dataset_meta = _segmentation_meta(dataset, model.num_classes)
        # A user's image has no ground truth to load; mmseg drops this step only under its bare name.
        dataset.pipeline = [step for step in dataset.pipeline if 'LoadAnnotations' not in step.type]
        cfg.test_pipeline = copy.deepcopy(dataset.pipeline)  # mmseg's functions write into theirs
    return _finished(model, cfg)


def build_student(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """Build and fill a pre-training config's student only; arguments as for :func:`build_from_config`."""
    cfg = _prepared(cfg)
    init_cfg = cfg.model.backbone.pop('init_cfg', None) or {}
    student = MODELS.build(cfg.model.backbone)
    if checkpoint is not None:
        load(student, checkpoint, init_cfg.get('prefix'), init_cfg.get('grid'))
    student.cfg = cfg
    student.eval()  # of mmpretrain, some return nothing
    return student


def build_teacher(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """Build the model of a config in ``configs/teachers``, and fill the part that becomes a teacher.

    ``checkpoint`` is a file of ``tools/train_teacher.py``; None leaves the initialisation.
    """
    cfg = _prepared(cfg)
    model = MODELS.build(cfg.model)
    if not hasattr(model, 'teacher_state'):
        raise ValueError(f'{type(model).__name__} has no backbone, and is no teacher: nothing can be filled')
    if checkpoint is not None:
        weights, own = read_tensors(local_path(checkpoint)), model.teacher_state()
        fill_strictly(own, weights, Path(checkpoint), type(model).__name__)
    return _finished(model, cfg)


def build_prompt_classifier(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """Build a config of ``configs/prompts``; ``checkpoint`` is a file of learnt prompts, None: fresh ones."""
    cfg = _prepared(cfg)
    model = MODELS.build(cfg.model)
    if checkpoint is not None:
        model.prompts = load_prompts(checkpoint).learner(model.text_tower)
    return _finished(model, cfg)


def _prepared(cfg: Config) -> Config:
    # For good, as mmpretrain's and mmseg's own functions do: their inference looks names up in it later.
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    return copy.deepcopy(cfg)


def _finished(model: nn.Module, cfg: Config) -> nn.Module:
    model.cfg = model._config = cfg  # where mmseg's functions look, and mmpretrain's
    return model.eval()


def _segmentation_meta(dataset: Config, num_classes: int) -> dict:
    from mmseg.registry import DATASETS

    drawn = np.random.RandomState(42).randint(0, 255, (num_classes, 3)).tolist()  # as by mmseg's datasets
    meta = {'palette': drawn, **DATASETS.get(dataset.type).METAINFO, **dataset.get('metainfo', {})}
    return {key: meta[key][:num_classes] for key in ('classes', 'palette')}
