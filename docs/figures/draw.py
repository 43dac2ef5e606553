"""Draw the pictures of docs/method.md and of the README: python docs/figures/draw.py"""

import json
import random
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmpretrain.registry import MODELS

from mvp_mm.datasets import BlockwiseMask
from mvp_mm.datasets.scenes import SceneCollection
from mvp_mm.visualization import token_colours
from mvp_mm.zoo import model_config

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / 'docs' / 'images'
GREY, INK, FROZEN, LEARNT = '#b8b8b8', '#222222', '#4178b5', '#c9662b'
SCENE = 37  # of the validation scenes: one with several objects
DPI = 130


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    plt.rcParams.update({'font.size': 9, 'text.color': INK})
    pictures = dict(method=draw_method, masks=draw_masks, downstream=draw_downstream, names=draw_names)
    for name, draw in pictures.items():
        figure = draw()
        figure.savefig(IMAGES / f'{name}.png', dpi=DPI, facecolor='white')
        plt.close(figure)
        print(IMAGES / f'{name}.png')


def draw_method() -> Figure:
    """One training sample: crop, mask, teacher's tokens, student, cosine."""
    scenes = SceneCollection('val', SCENE + 1, size=64)
    crop = scenes[SCENE][0]
    random.seed(3)
    mask = BlockwiseMask(input_size=8, num_masking_patches=24, min_num_patches=5)({})['mask']
    figure = plt.figure(figsize=(9.2, 3.7))
    picture(figure, (0.01, 0.3, 0.15, 0.4), crop, 'one crop of an image')
    picture(figure, (0.25, 0.1, 0.13, 0.34), masked(crop, mask), 'with blocks of patches hidden')
    picture(figure, (0.25, 0.6, 0.13, 0.34), crop, 'whole')
    box(figure, (0.44, 0.655, 0.16, 0.2), 'teacher\nvision branch of CLIP\nfrozen', FROZEN)
    box(figure, (0.44, 0.155, 0.16, 0.2), 'student\nBEiT ViT\nlearns', LEARNT)
    picture(
        figure, (0.66, 0.6, 0.13, 0.34), teacher_colours(crop), 'targets $G$: CLS and\nevery patch (Eq. 7)'
    )
    box(figure, (0.66, 0.155, 0.13, 0.2), 'one linear layer\npredictions $F$\n(Eq. 8)', LEARNT)
    box(
        figure,
        (0.855, 0.38, 0.135, 0.24),
        'minus the mean\ncosine of $F$ and $G$\nover CLS and all\npatches (Eq. 9)',
        INK,
    )
    for start, end in (
        ((0.165, 0.55), (0.245, 0.74)),
        ((0.165, 0.45), (0.245, 0.28)),
        ((0.385, 0.755), (0.437, 0.755)),
        ((0.385, 0.255), (0.437, 0.255)),
        ((0.603, 0.755), (0.655, 0.755)),
        ((0.603, 0.255), (0.655, 0.255)),
        ((0.795, 0.7), (0.87, 0.63)),
        ((0.795, 0.3), (0.87, 0.37)),
    ):
        arrow(figure, start, end)
    return figure


def draw_masks() -> Figure:
    """Draws at the paper's size, and how often each patch is hidden."""
    draw = BlockwiseMask(input_size=14, num_masking_patches=75, min_num_patches=16)
    random.seed(0)
    masks = np.stack([draw({})['mask'] for _ in range(2000)])
    figure, axes = plt.subplots(1, 6, figsize=(9.2, 1.9), layout='constrained')
    for axis, mask in zip(axes[:5], masks, strict=False):
        axis.imshow(mask, cmap='Greys', vmin=0, vmax=1.6)
        cells(axis, 14)
    shown = axes[5].imshow(masks.mean(axis=0), cmap='viridis')
    cells(axes[5], 14)
    axes[2].set_title('five draws: 75 of 196 patches hidden')
    axes[5].set_title('share of 2,000 draws')
    figure.colorbar(shown, ax=axes[5], shrink=0.75)
    return figure


def draw_downstream() -> Figure:
    """What becomes of a pre-training checkpoint."""
    figure = plt.figure(figsize=(9.2, 2.4))
    box(
        figure,
        (0.01, 0.36, 0.17, 0.3),
        'pre-training checkpoint\nstudent and linear layer\n(no teacher)',
        LEARNT,
    )
    box(
        figure,
        (0.25, 0.36, 0.19, 0.3),
        'load as it is: shared bias\ntable to one a block,\nresized where the grid differs',
        INK,
    )
    rows = (
        ('segmentation by UperNet', 'blocks 3, 5, 7, 11 at 512x512'),
        ('classification, fine-tuned', 'mean of the patches, 224x224'),
        ('linear probe, k-NN', 'nothing of the student is changed'),
        ('export', 'timm, transformers, ONNX, ...'),
    )
    for row, (title, what) in enumerate(rows):
        bottom = 0.77 - 0.25 * row
        box(figure, (0.54, bottom, 0.45, 0.2), f'{title}: {what}', FROZEN)
        arrow(figure, (0.443, 0.51), (0.537, bottom + 0.1))
    arrow(figure, (0.183, 0.51), (0.247, 0.51))
    return figure


def draw_names() -> Figure:
    """Segmentation by names, of student and teacher, and after fine-tuning, by the target tokens."""
    results = ROOT / 'benchmarks' / 'results' / 'miniature_names_2026-11-26'
    kinds = ('clip', 'clip-value', 'clip-csa', 'clip-neighbour', 'clip-kk')
    figure, (by_names, fine_tuned) = plt.subplots(1, 2, figsize=(7.2, 2.6), layout='constrained')
    for place, kind in enumerate(kinds):
        watched = [json.loads(path.read_text())['10'] for path in results.glob(f'watch-{kind}-s*.json')]
        students = [found['open_vocabulary/mIoU'] for found in watched]
        by_names.bar(place - 0.2, np.mean(students), 0.4, color=LEARNT)
        by_names.bar(place + 0.2, watched[0]['open_vocabulary/teacher_mIoU'], 0.4, color=FROZEN)
        by_names.plot([place - 0.2] * len(students), students, '.', color=INK)
        segmented = [json.loads(path.read_text())['miou'] for path in results.glob(f'segment-{kind}-s*.json')]
        fine_tuned.bar(place, np.mean(segmented), 0.5, color=LEARNT)
        fine_tuned.plot([place] * len(segmented), segmented, '.', color=INK)
    random_students = [json.loads(path.read_text())['0'] for path in results.glob('watch-scratch-s*.json')]
    random_student = np.mean([found['open_vocabulary/mIoU'] for found in random_students])
    by_names.axhline(random_student, color=GREY, linestyle='--')
    by_names.text(len(kinds) - 0.5, random_student, 'random student', ha='right', va='bottom', fontsize=7)
    by_names.set_title('by names, without a label: student, teacher', fontsize=9)
    fine_tuned.set_title('UperNet with 300 labels: student', fontsize=9)
    for axis in (by_names, fine_tuned):
        axis.set_xticks(range(len(kinds)), ['last', *(kind.removeprefix('clip-') for kind in kinds[1:])])
        axis.set_ylabel('mIoU (%)')
        axis.spines[['top', 'right']].set_visible(False)
    return figure


def teacher_colours(crop: np.ndarray) -> np.ndarray:
    """The embedded CLIP's tokens of a crop, their three main directions as colours."""
    cfg = model_config('mvp_vittiny_scenes').model
    teacher = MODELS.build(cfg.target_generator)
    mean, std = (torch.tensor(cfg.data_preprocessor[key]).view(1, 3, 1, 1) for key in ('mean', 'std'))
    images = (torch.from_numpy(crop.copy()).permute(2, 0, 1)[None].float() - mean) / std
    (colours,) = token_colours([teacher(images)[0, 1:]])
    return colours.view(8, 8, 3).numpy()


def masked(crop: np.ndarray, mask: np.ndarray) -> np.ndarray:
    hidden = np.kron(mask, np.ones((8, 8))).astype(bool)
    return np.where(hidden[..., None], np.uint8(184), crop)


def picture(figure: Figure, place: tuple, image: np.ndarray, title: str) -> None:
    axis = figure.add_axes(place)
    axis.imshow(image, interpolation='nearest', extent=(0, 8, 8, 0))
    cells(axis, 8, 0.0)
    axis.text(0.5, -0.05, title, fontsize=8, ha='center', va='top', transform=axis.transAxes)


def cells(axis: Axes, count: int, first: float = -0.5) -> None:
    axis.set_xticks([]), axis.set_yticks([])
    for edge in range(count + 1):
        axis.axhline(first + edge, color='white', linewidth=0.4)
        axis.axvline(first + edge, color='white', linewidth=0.4)


def box(figure: Figure, place: tuple, text: str, colour: str) -> None:
    axis = figure.add_axes(place)
    axis.set_xticks([]), axis.set_yticks([])
    axis.spines[:].set_color(colour)
    axis.spines[:].set_linewidth(1.4)
    axis.text(0.5, 0.5, text, ha='center', va='center', fontsize=8, color=colour)


def arrow(figure: Figure, start: tuple, end: tuple) -> None:
    figure.add_artist(
        matplotlib.patches.FancyArrowPatch(
            start, end, transform=figure.transFigure, arrowstyle='-|>', mutation_scale=9, color=GREY
        )
    )


if __name__ == '__main__':
    main()
