"""A model for use in Python, from a config and a weight file."""

import copy
import logging
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..weights.bias_tables import Grid
from ..weights.fill_model import fill_whole
from ..weights.load import fill, load_pretrained, read_weights
from .backbones.mvp_vit import MVPViT
from .target_generators.teacher_weights import require_fit


def build_from_config(
    cfg: Config, checkpoint: str | None = None, head: bool = True, whole: bool = False
) -> nn.Module:
    """Build a config's model and fill it.

    Args:
        cfg: The config, which is not changed. Of its ``model.backbone.init_cfg`` only ``prefix`` and ``grid``
            are used.
        checkpoint: File or address of a checkpoint of the whole model, or, for ``MVPViT``, of whatever
            ``model.backbone.init_cfg.checkpoint`` takes; None leaves the initialisation as it is. No code
            in the file is run.
        head: Fill the head as well, where the file has one. False is for those who use the features only;
            the file's head may then be that of other classes.
        whole: Refuse a file that fills the backbone only. True is for those who use the head.

    Returns:
        The model in eval mode, with ``cfg``, and for a segmentation model ``dataset_meta`` (classes and
        palette), as the functions of mmpretrain and mmseg expect. MMEngine's default scope is set to the
        config's.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file fits neither the model nor its backbone.
    """
    cfg = _prepared(cfg)
    init_cfg = cfg.model.backbone.pop('init_cfg', None) or {}
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    if checkpoint is not None:
        _fill(model, checkpoint, head, whole, init_cfg.get('prefix'), init_cfg.get('grid'))
    if cfg.get('default_scope') == 'mmseg':
        model.dataset_meta = _segmentation_meta(cfg, model.num_classes)
        # A user's image has no ground truth to load; mmseg drops this step only under its bare name.
        dataset = cfg.test_dataloader.dataset
        dataset.pipeline = [step for step in dataset.pipeline if 'LoadAnnotations' not in step.type]
        cfg.test_pipeline = copy.deepcopy(dataset.pipeline)  # mmseg's functions write into theirs
    model.cfg = model._config = cfg  # where mmseg's functions look, and mmpretrain's
    return model.eval()


def build_student(cfg: Config, checkpoint: str | None = None) -> MVPViT:
    """Build a pre-training config's student and fill it; its teacher is not touched.

    Args:
        cfg: The config, which is not changed.
        checkpoint: Whatever ``model.backbone.init_cfg.checkpoint`` takes; None leaves the initialisation.

    Returns:
        The student in eval mode, with ``cfg``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file does not fit.
    """
    cfg = _prepared(cfg)
    init_cfg = cfg.model.backbone.pop('init_cfg', None) or {}
    student = MODELS.build(cfg.model.backbone)
    if checkpoint is not None:
        load_pretrained(student, checkpoint, init_cfg.get('prefix'), init_cfg.get('grid'))
    student.cfg = cfg
    return student.eval()


def build_teacher(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """Build the model of a config in ``configs/teachers`` and fill what a target generator uses of it.

    Args:
        cfg: The config, which is not changed.
        checkpoint: What ``tools/train_teacher.py`` wrote; None leaves the initialisation.

    Returns:
        The model in eval mode, with ``cfg``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the config is of no teacher, or the file does not fit.
    """
    cfg = _prepared(cfg)
    model = MODELS.build(cfg.model)
    if not hasattr(model, 'teacher_state'):
        raise ValueError(f'{type(model).__name__} has no backbone, and is no teacher: nothing can be filled')
    if checkpoint is not None:
        weights, own = read_weights(checkpoint), model.teacher_state()
        require_fit(weights, own, Path(checkpoint), type(model).__name__)
        for name, value in own.items():  # a state dict shares its memory with the parameters
            value.copy_(weights[name])
    model.cfg = model._config = cfg
    return model.eval()


def _prepared(cfg: Config) -> Config:
    # For good, as mmpretrain's and mmseg's own functions do: their inference looks names up in it later.
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    return copy.deepcopy(cfg)


def _fill(
    model: nn.Module, checkpoint: str, head: bool, whole: bool, prefix: str | None, grid: Grid | None
) -> None:
    weights = read_weights(checkpoint, prefix)
    others = [name for name in model.state_dict() if not name.startswith('backbone.')]
    backbone_only = not head or not any(name in weights for name in others)
    if whole or not backbone_only or not isinstance(model.backbone, MVPViT):
        fill_whole(model, weights, checkpoint, without=None if head else 'head')
        return
    fill(model.backbone, weights, checkpoint, prefix, grid)
    if head and others:
        parts = ', '.join(dict.fromkeys(name.split('.')[0] for name in others))
        print_log(
            f'{checkpoint} fills the backbone; these keep their initialisation: {parts}',
            logger='current',
            level=logging.WARNING,
        )


def _segmentation_meta(cfg: Config, num_classes: int) -> dict:
    from mmseg.registry import DATASETS

    dataset = cfg.test_dataloader.dataset
    meta = dict(DATASETS.get(dataset.type).METAINFO) | dict(dataset.get('metainfo', {}))
    if 'palette' not in meta:  # drawn as mmseg's datasets do
        meta['palette'] = np.random.RandomState(42).randint(0, 255, (num_classes, 3)).tolist()
    return {key: meta[key][:num_classes] for key in ('classes', 'palette')}
