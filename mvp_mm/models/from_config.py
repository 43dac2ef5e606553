"""A model for use in Python, from a config and a weight file."""

import copy

import numpy as np
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from .checkpoint_loading import INDEX, fill, read_weights
from .mvp_vit import MVPViT


def build_from_config(cfg: Config, checkpoint: str | None = None, head: bool = True) -> nn.Module:
    """Build a config's model and fill it.

    Args:
        cfg: The config, which is not changed; its ``model.backbone.init_cfg`` is not used.
        checkpoint: File or address of a checkpoint of the whole model, or, for ``MVPViT``, of whatever
            ``model.backbone.init_cfg.checkpoint`` takes; None leaves the initialisation as it is. No code
            in the file is run.
        head: Fill the head as well, where the file has one. False is for those who use the features only;
            the file's head may then be that of other classes.

    Returns:
        The model in eval mode, with ``cfg``, and for a segmentation model ``dataset_meta`` (classes and
        palette), as the functions of mmpretrain and mmseg expect. MMEngine's default scope is set to the
        config's.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file fits neither the model nor its backbone.
    """
    # For good, as mmpretrain's and mmseg's own functions do: their inference looks names up in it later.
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    cfg = copy.deepcopy(cfg)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    if checkpoint is not None:
        _fill(model, checkpoint, head)
    if cfg.get('default_scope') == 'mmseg':
        model.dataset_meta = _segmentation_meta(cfg, model.num_classes)
        # A user's image has no ground truth to load; mmseg drops this step only under its bare name.
        dataset = cfg.test_dataloader.dataset
        dataset.pipeline = [step for step in dataset.pipeline if 'LoadAnnotations' not in step.type]
        cfg.test_pipeline = copy.deepcopy(dataset.pipeline)  # mmseg's functions write into theirs
    model.cfg = model._config = cfg  # where mmseg's functions look, and mmpretrain's
    return model.eval()


def _fill(model: nn.Module, checkpoint: str, head: bool) -> None:
    weights = read_weights(checkpoint)
    wanted = [name for name in model.state_dict() if head or not name.startswith('head.')]
    missing = [name for name, _ in model.named_parameters() if name in wanted and name not in weights]
    if isinstance(model.backbone, MVPViT) and (missing or not head):
        fill(model.backbone, weights, checkpoint, 'backbone.')
        return
    if not head:
        weights = {name: value for name, value in weights.items() if name in wanted}
    try:
        keys = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # shapes
        raise ValueError(f'{checkpoint} does not fit: {error}') from error
    # An index into a bias table that was resized is left out, and is the model's own.
    missing = [name for name in keys.missing_keys if name in wanted and not name.endswith(INDEX)]
    if missing:
        raise ValueError(f'{checkpoint} does not fit: it has no {missing[0]} ({len(missing)} are missing)')
    if keys.unexpected_keys:
        raise ValueError(
            f'{checkpoint} does not fit: it has {keys.unexpected_keys[0]}, for which the model has no place '
            f'({len(keys.unexpected_keys)} such entries)'
        )


def _segmentation_meta(cfg: Config, num_classes: int) -> dict:
    from mmseg.registry import DATASETS

    dataset = cfg.test_dataloader.dataset
    meta = dict(DATASETS.get(dataset.type).METAINFO) | dict(dataset.get('metainfo', {}))
    if 'palette' not in meta:  # drawn as mmseg's datasets do
        meta['palette'] = np.random.RandomState(42).randint(0, 255, (num_classes, 3)).tolist()
    return {key: meta[key][:num_classes] for key in ('classes', 'palette')}
