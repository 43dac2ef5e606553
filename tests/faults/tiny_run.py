"""The training that is killed: seconds long, with checkpoints, evaluations and a real run's randomness."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from torch import Tensor

from mvp_mm.engine import load_config, set_loader_option

CONFIG = Path(__file__).parents[2] / 'configs' / 'mvp' / 'vittiny_debug.py'


def write_photographs(folder: Path, count: int, seed: int = 0, size: int = 80) -> list[Path]:
    """Smooth random images as JPEG files.

    Args:
        folder: Where; it is made.
        count: How many.
        seed: Of their colours.
        size: Width and height.

    Returns:
        Their paths.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'{number:04d}.jpg' for number in range(count)]
    for path in paths:
        coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(path)
    return paths


def tiny_config(images: Path, processes: int = 1, epochs: int = 3, batch: int = 8, layers: int = 1) -> Config:
    """configs/mvp/vittiny_debug.py, smaller, with an evaluation after each epoch and frequent checkpoints.

    Two batches are accumulated, so that a kill can come in the middle of an optimiser step.

    Args:
        images: Folder of images, for training and evaluation.
        processes: That share a batch.
        epochs: Length.
        batch: Images an iteration, of all processes together.
        layers: Of the student.

    Returns:
        The config.
    """
    cfg = load_config(str(CONFIG))
    cfg.model.backbone.arch.num_layers = layers
    cfg.train_dataloader.update(batch_size=batch // processes, num_workers=1)
    cfg.train_dataloader.dataset.data_root = cfg.test_dataloader.dataset.data_root = str(images)
    cfg.train_dataloader.sampler.total_batch = cfg.auto_scale_lr.base_batch_size = 2 * batch
    cfg.test_dataloader.batch_size = 8
    set_loader_option(cfg, 'persistent_workers', False)
    cfg.val_dataloader, cfg.val_evaluator, cfg.val_cfg = cfg.test_dataloader, cfg.test_evaluator, dict()
    cfg.train_cfg.update(max_epochs=epochs, val_interval=1)
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=2, max_keep_ckpts=3)
    cfg.custom_imports.imports = [*cfg.custom_imports.imports, 'faults']
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type='PhaseHook')]
    cfg.work_dir = None  # the command line's
    return cfg


def tensors(checkpoint: Path) -> dict[str, Tensor]:
    """The weights and the optimiser's state in a checkpoint, by name, in their order."""
    content = torch.load(checkpoint, weights_only=True)
    found: dict[str, Tensor] = {}

    def add(name: str, value: object) -> None:
        if isinstance(value, Tensor):
            found[name] = value.cpu().contiguous()
        elif isinstance(value, dict):
            for key in value:
                add(f'{name}.{key}', value[key])

    for key in ('state_dict', 'optimizer'):
        add(key, content[key])
    return found


def digest(checkpoint: Path) -> str:
    """sha256 over all tensors of a checkpoint's weights and optimiser, with their names, types and shapes.

    Args:
        checkpoint: File.

    Returns:
        64 hexadecimal digits.
    """
    total = hashlib.sha256()
    for name, value in tensors(checkpoint).items():
        total.update(f'{name} '.encode() + as_bytes(value))
    return total.hexdigest()


def as_bytes(value: Tensor) -> bytes:
    """Type, shape and values."""
    return f'{value.dtype} {tuple(value.shape)}\n'.encode() + value.numpy().tobytes()


def difference(checkpoint: Path, wanted: Path) -> str:
    """Tell how the tensors of two checkpoints differ, for a person who has to find out why.

    Args:
        checkpoint: File.
        wanted: The one that it should be like.

    Returns:
        Such as ``'3 of 90 tensors differ, by at most 0.01; the first is state_dict.cls_token'``; '' of equal
        ones.
    """
    here, there = tensors(checkpoint), tensors(wanted)
    if list(here) != list(there):
        return f'{checkpoint.name} does not hold the tensors of {wanted.name}, in their order'
    names = [name for name in there if as_bytes(here[name]) != as_bytes(there[name])]
    if not names:
        return ''
    told = ' in shape or type'
    if all(here[name].shape == there[name].shape for name in names):
        most = max(float((here[name].double() - there[name].double()).abs().max()) for name in names)
        told = f', by at most {most:.3g}'
    return f'{len(names)} of {len(there)} tensors differ{told}; the first is {names[0]}'


def last_checkpoint(work_dir: Path) -> Path:
    """The one that ``last_checkpoint`` names."""
    return Path((work_dir / 'last_checkpoint').read_text().strip())
