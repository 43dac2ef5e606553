"""The chain in minutes: pre-train a little, then see what a long pre-training is worth with few labels."""

import json
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mmengine.runner import Runner
from torch import nn

from ..datasets.scenes import PALETTE, SHAPES, SceneCollection
from .plan import EVEN, GENTLE
from .work import CONFIGS, recipe_options, scenes_runner, segmentation_length

STUDENT = CONFIGS / 'mvp' / 'vittiny_scenes.safetensors'
LABELS = 300
PRETRAINING_SCENES, PRETRAINING_EPOCHS = 8000, 2
STEPS = 400
SHOWN_SCENES = 5


def demonstrate(out: Path, options: dict | None = None) -> dict[str, float]:
    """Pre-train, fine-tune from the shipped student and from scratch, and draw all of it.

    Args:
        out: Folder for logs, checkpoints and pictures.
        options: Further config options, for tests.

    Returns:
        mIoU in percent on 1000 test scenes, by ``'shipped student'`` and ``'from scratch'``.
    """
    options = options or {}
    # for networks so small a second one gains little, and on a busy machine it costs
    torch.set_num_threads(1)
    print(f'\n1/3  Pre-training a tiny student on {PRETRAINING_SCENES} scenes, taught by the embedded CLIP\n')
    _train('mvp/vittiny_scenes.py', out / 'pretraining', _pretraining_options() | options)
    scores, models = {}, {}
    # Layer decay is for what was trained before. With 1,000 steps both do about as well for scratch
    # (docs/miniature.md: 22.8 and 22.3).
    starts = {
        'shipped student': {'model.backbone.init_cfg.checkpoint': str(STUDENT), **recipe_options(GENTLE)},
        'from scratch': {'model.backbone.init_cfg': None, **recipe_options(EVEN)},
    }
    for number, (name, start) in enumerate(starts.items(), start=2):
        print(f'\n{number}/3  UperNet on {LABELS} labelled scenes, {name}\n')
        settings = _segmentation_options() | start | options
        runner = _train('upernet/vittiny_scenes.py', out / name.replace(' ', '_'), settings)
        scores[name] = float(runner.test()['mIoU'])
        models[name] = runner.model
    _draw_segmentations(models, out / 'segmentation.png')
    (out / 'scores.json').write_text(json.dumps(scores, indent=1) + '\n')
    return scores


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


def _train(config: str, work_dir: Path, options: dict) -> Runner:
    runner = scenes_runner(config, work_dir, options)
    runner.train()
    return runner


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
