"""A model for use in Python, from a config and a weight file."""

import copy
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from .checkpoint_loading import load_pretrained
from .tensor_files import read_tensors


def build_from_config(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """Build a config's model and fill it.

    Args:
        cfg: The config; its ``model.backbone.init_cfg`` is not used.
        checkpoint: A checkpoint of the whole model, or a pre-training checkpoint for its backbone; None
            leaves the initialisation as it is. No code in the file is run.

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
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    if checkpoint is not None:
        _fill(model, checkpoint)
    if cfg.get('default_scope') == 'mmseg':
        model.dataset_meta = _segmentation_meta(cfg, model.num_classes)
        # A user's image has no ground truth to load; mmseg drops this step only under its bare name.
        dataset = cfg.test_dataloader.dataset
        dataset.pipeline = [step for step in dataset.pipeline if 'LoadAnnotations' not in step.type]
        cfg.test_pipeline = copy.deepcopy(dataset.pipeline)  # mmseg's functions write into theirs
    model.cfg = cfg
    return model.eval()


def _fill(model: nn.Module, checkpoint: str) -> None:
    path = Path(checkpoint).expanduser()
    if path.is_file():
        weights = read_tensors(path)
        if all(name in weights for name, _ in model.named_parameters()):
            model.load_state_dict(weights)
            return
    load_pretrained(model.backbone, checkpoint, 'backbone.')


def _segmentation_meta(cfg: Config, num_classes: int) -> dict:
    from mmseg.registry import DATASETS

    dataset = cfg.test_dataloader.dataset
    meta = dict(DATASETS.get(dataset.type).METAINFO) | dict(dataset.get('metainfo', {}))
    return {key: meta[key][:num_classes] for key in ('classes', 'palette')}
