"""The chain in minutes: pre-train a little, then see what a long pre-training is worth with few labels."""

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import nn

from mvp_mm.console.training_display import TrainingDisplay
from mvp_mm.datasets.scenes import PALETTE, SHAPES, SceneCollection
from mvp_mm.engine import load_config
from mvp_mm.engine.checkpoint.safe_checkpoint import saved_checkpoints
from mvp_mm.hardware import usable_cores
from mvp_mm.models.from_config import build_from_config

from ..jobs import CONFIGS, runner_of
from ..recipes import recipe_options, segmentation_length
from .plan import EVEN, GENTLE

SEGMENTATION = 'upernet/vittiny_scenes.py'
STUDENT = CONFIGS / 'mvp' / 'vittiny_scenes.safetensors'
LABELS = 300
PRETRAINING_SCENES, PRETRAINING_EPOCHS = 8000, 2
STEPS = 400
SHOWN_SCENES = 5


def demonstrate(out: Path, options: dict | None = None) -> dict[str, float]:
    """Pre-train, fine-tune from the shipped student and from scratch, and draw all of it.

    None of the three needs another, so they run side by side as far as there are cores: a second thread gains
    little for networks so small. The pre-training shows its progress; the others log to files.

    Args:
        out: Folder for logs, checkpoints and pictures.
        options: Further config options, for tests.

    Returns:
        mIoU in percent on 1000 test scenes, by ``'shipped student'`` and ``'from scratch'``.
    """
    options = options or {}
    # Layer decay is for what was trained before. With 1,000 steps both do about as well for scratch
    # (docs/miniature.md: 22.8 and 22.3).
    starts = {
        'shipped student': {'model.backbone.init_cfg.checkpoint': str(STUDENT), **recipe_options(GENTLE)},
        'from scratch': {'model.backbone.init_cfg': None, **recipe_options(EVEN)},
    }
    starts = {name: _segmentation_options() | start | options for name, start in starts.items()}
    folders = {name: out / name.replace(' ', '_') for name in starts}
    beside = min(len(starts), usable_cores())
    with ProcessPoolExecutor(beside, multiprocessing.get_context('spawn')) as pool:
        running = {name: pool.submit(_segment_from, folders[name], starts[name]) for name in starts}
        print(f'UperNet on {LABELS} labelled scenes, from the shipped student and from scratch; the logs:')
        print('\n'.join(f'  {_log_of(folder)}' for folder in folders.values()))
        print(f'Pre-training a tiny student on {PRETRAINING_SCENES:,} scenes, taught by the embedded CLIP')
        _pretrain(out / 'pretraining', _pretraining_options() | options)
        print('Pre-trained. Waiting for UperNet')
        scores = {name: future.result() for name, future in running.items()}
    models = {name: _trained_segmentor(folders[name], starts[name]) for name in starts}
    _draw_segmentations(models, out / 'segmentation.png')
    (out / 'scores.json').write_text(json.dumps(scores, indent=1) + '\n')
    return scores


def _pretrain(work_dir: Path, settings: dict) -> None:
    torch.set_num_threads(1)
    with TrainingDisplay() as display:
        runner = runner_of('mvp/vittiny_scenes.py', work_dir, settings)
        runner.register_hook(display)
        runner.train()


def _segment_from(work_dir: Path, settings: dict) -> float:
    """Train UperNet in a process of its own and return its mIoU on the test scenes."""
    work_dir.mkdir(parents=True, exist_ok=True)
    with _log_of(work_dir).open('w') as log:
        for stream in (1, 2):  # of loader workers too
            os.dup2(log.fileno(), stream)
    torch.set_num_threads(1)
    runner = runner_of(SEGMENTATION, work_dir, settings)
    runner.train()
    return float(runner.test()['mIoU'])


def _log_of(work_dir: Path) -> Path:
    return work_dir.with_suffix('.log')


def _trained_segmentor(work_dir: Path, settings: dict) -> nn.Module:
    cfg = load_config(str(CONFIGS / SEGMENTATION), str(work_dir), cfg_options=settings)
    return build_from_config(cfg, str(saved_checkpoints(work_dir)[0]), whole=True)


def _pretraining_options() -> dict:
    return {
        'train_dataloader.dataset.count': PRETRAINING_SCENES,
        'val_dataloader.dataset.count': 300,
        'train_cfg.max_epochs': PRETRAINING_EPOCHS,
        'param_scheduler.0.end': 20,
        'param_scheduler.1.end': PRETRAINING_EPOCHS,
        'default_hooks.logger.interval': 20,
    }


def _segmentation_options() -> dict:
    return {
        'train_dataloader.dataset.count': LABELS,
        **segmentation_length(STEPS),
        'default_hooks.checkpoint.interval': STEPS,
        'default_hooks.logger.interval': 20,
    }


@torch.no_grad()
def _draw_segmentations(models: dict[str, nn.Module], path: Path) -> None:
    """Test scenes, what is there, and what each model sees."""
    scenes = SceneCollection('test', SHOWN_SCENES)
    images = [scenes[i][0] for i in range(SHOWN_SCENES)]
    rows = {'scene': images, 'label map': [_overlay(*scenes[i]) for i in range(SHOWN_SCENES)]}
    for name, model in models.items():
        rows[name] = [_overlay(image, _segment(model, image)) for image in images]
    figure = Figure((1.6 * SHOWN_SCENES, 1.7 * len(rows)), layout='constrained', dpi=120)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), SHOWN_SCENES)
    for line, (name, pictures) in zip(grid, rows.items(), strict=True):
        line[0].set_ylabel(name)
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture, interpolation='nearest')
            axes.set_xticks([])
            axes.set_yticks([])
    legend = [
        Patch(color=np.array(colour) / 255, label=name)
        for colour, name in zip(PALETTE[1:], SHAPES, strict=True)
    ]
    figure.legend(handles=legend, ncols=len(legend), loc='outside lower center', fontsize='small')
    figure.savefig(path)


def _overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The classes' colours over a darkened scene, uint8 ``(H, W, 3)``; background stays the scene."""
    coloured = np.array(PALETTE, dtype=np.uint8)[labels]
    return np.where(labels[..., None] > 0, coloured // 4 * 3 + image // 4, image // 2)


def _segment(model: nn.Module, image: np.ndarray) -> np.ndarray:
    bgr = torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)
    model.eval()
    (sample,) = model.test_step(dict(inputs=[bgr], data_samples=[_empty_sample(image.shape[:2])]))
    return sample.pred_sem_seg.data[0].cpu().numpy()


def _empty_sample(shape: tuple[int, int]):
    from mmseg.structures import SegDataSample

    return SegDataSample(metainfo=dict(ori_shape=shape, img_shape=shape, pad_shape=shape))
