"""Segment single images with a trained model."""

from pathlib import Path

import numpy as np
from mmengine.device import get_device
from torch import nn

from ..datasets.transforms.decode_image import decode_image
from ..engine import load_config
from ..models.from_config import build_from_config


def load_segmentor(config: str, checkpoint: str, device: str | None = None) -> nn.Module:
    """Load a trained segmentation model in eval mode, by a config file and a checkpoint of it.

    It has ``cfg`` and ``dataset_meta`` (classes and palette), as mmseg's functions want. No code in the
    checkpoint is run. The default device is a GPU if there is one.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the config is of no segmentation, or the checkpoint does not fit.
    """
    cfg = load_config(config)
    if 'decode_head' not in cfg.model:
        raise ValueError(f'{config} is no segmentation config: take one of configs/upernet')
    return build_from_config(cfg, checkpoint, whole=True).to(device or get_device())


def segment_image(model: nn.Module, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Segment any image file that Pillow opens, with a model of :func:`load_segmentor`.

    Returns the image, RGB uint8 ``(H, W, 3)``, and the class of every pixel, int64 ``(H, W)``: 0 or 1 where
    the head has one channel, whose sigmoid is compared with ``decode_head.threshold``.

    Raises:
        UnreadableImageError: If the file cannot be decoded.
    """
    from mmseg.apis import inference_model

    image = decode_image(str(path))
    result = inference_model(model, np.ascontiguousarray(image[..., ::-1]))
    # Of a head with one channel, mmseg returns the classes in the dtype of the logits.
    return image, result.pred_sem_seg.data[0].long().cpu().numpy()
