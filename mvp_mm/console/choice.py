"""What to train on a collection of photographs, and the source of each rule; docs/choosing.md."""

import shlex
from typing import NamedTuple

from ..datasets.prepare.survey import Survey

PAPER = "MVP's paper (arXiv:2203.05175)"
SCALING = 'Xie et al. (arXiv:2206.04664)'
SMALL = 'El-Nouby et al. (arXiv:2112.10740)'
GO_ON = 'Reed et al. (arXiv:2103.12718)'
UNSCALED = 'Tan (arXiv:2402.03752)'
PATCHES = 'FlexiViT, Beyer et al. (arXiv:2212.08013)'
HERE = 'this project, docs/miniature.md'

IMAGENET = 1_281_167
STUDIED = IMAGENET // 10  # the smallest set of SCALING
BATCH = 2048  # of the paper's recipe
SHORT, LONG = 62_500, 187_500  # steps of 100 and of 300 epochs of ImageNet
FULL, HALF, TINY = 224, 112, 64  # sides of crops


class Choice(NamedTuple):
    """One decision: what, why, and who says so."""

    about: str
    what: str
    why: str
    source: str


class Advice(NamedTuple):
    """Decisions, and the command that follows from them."""

    choices: list[Choice]
    command: str


def choose(survey: Survey) -> Advice:
    """Choose image size, patch size, student, start, length and batch for photographs that can be read."""
    count = round(survey.count * len(survey.readable) / len(survey.looked_at))
    side = next((side for side in (FULL, HALF) if survey.smaller_than(side) <= 0.5), TINY)
    epochs, length = _length(count, side)
    start = [] if side == TINY else [_start(count)]
    choices = [_size(survey, side), _student(count, side), *start, length, _batch(count, side)]
    return Advice(choices, _command(survey, side, epochs))


def _size(survey: Survey, side: int) -> Choice:
    """The largest side that no more than half of the photographs are smaller than."""
    what = f'{side} x {side} pixels, patches of {16 if side == FULL else 8}'
    share, of_twice = (f'{survey.smaller_than(pixels):.0%}' for pixels in (side, 2 * side))
    why = f'{share} of the photographs are smaller'
    if side == FULL:
        return Choice('image size', what, f'as in the paper; {why}', f'{PAPER}, section 3.3.3')
    why += f', and {of_twice} than {2 * side}: small images are best left small'
    if side == HALF:
        why += '; 14 x 14 patches are those of 224 with 16, at the same cost'
    return Choice('image size', what, why, f'{UNSCALED}; {PATCHES if side == HALF else HERE}')


def _student(count: int, side: int) -> Choice:
    if side == TINY:
        return Choice('student', 'vit-tiny', 'what this project has trained at 64 pixels', HERE)
    if count >= IMAGENET:
        why = 'the smaller of the two of the paper; vit-large gained 1.9 points of top-1 and of mIoU there'
        return Choice('student', 'vit-base', why, f'{PAPER}, Tables 1 and 3')
    why = f'very large students overfit on few images: vit-large is for {IMAGENET:,} or more'
    return Choice('student', 'vit-base', why, SCALING)


def _start(count: int) -> Choice:
    if count < STUDIED:
        what = 'from weights that have seen more: --student timm:NAME, or --cfg-options load_from=FILE'
        why = (
            f'{count:,} images are fewer than {STUDIED:,}, a tenth of ImageNet: going on converged up to 80 '
            'times faster, and was robust to the amount of data'
        )
        return Choice('start', what, why, GO_ON)
    why = 'masked pre-training is robust to sets an order of magnitude smaller than ImageNet'
    return Choice('start', 'from random weights', why, SMALL)


def _length(count: int, side: int) -> tuple[int, Choice]:
    if side == TINY:
        epochs = max(4, round(2000 / max(1, count / 64)))
        return epochs, Choice('length', f'{epochs:,} epochs', '4, or 2,000 steps, as on the scenes', HERE)
    steps = LONG if count > IMAGENET else SHORT
    if count < STUDIED:
        why = (
            'those of the shorter recipe, as a bound: how long such a run pays is not known, so watch an '
            'evaluator and stop'
        )
        return 100, Choice('length', '100 epochs', why, f'{PAPER}, Table 4')
    epochs = max(1, round(steps * BATCH / count))
    why = 'as many steps as 100 epochs of ImageNet: 0.5 points of top-1 and 0.4 of mIoU below 300 epochs'
    source = f'{PAPER}, Table 4; training length counted in steps: {SCALING}'
    if count > IMAGENET:
        why, source = 'as many steps as 300 epochs of ImageNet: more images pay with longer training', SCALING
    return epochs, Choice('length', f'{epochs:,} epochs, {steps:,} steps of {BATCH}', why, source)


def _batch(count: int, side: int) -> Choice:
    if side == TINY:
        return Choice('batch', '64 in total', 'that of the 2,000 steps on the scenes', HERE)
    why = "the recipe's, reached by accumulation; mvp-mm pretrain finds what the machine holds"
    if count < BATCH:
        why = f'the {count:,} images there are; the learning rate is scaled linearly'
    return Choice('batch', f'{min(count, BATCH):,} in total', why, f'{PAPER}, section 3.3.3')


def _command(survey: Survey, side: int, epochs: int) -> str:
    place, values = survey.options.get('ann_file') or survey.options['data_root'], dict[str, object]()
    tiny = side == TINY
    if tiny:
        values = {'auto_scale_lr.base_batch_size': 64, 'train_dataloader.sampler.total_batch': 64}
    elif side == HALF:
        values = {
            'model.backbone.img_size': HALF,
            'model.backbone.patch_size': 8,
            'model.target_generator.patch_size': 8,
            'train_dataloader.dataset.pipeline.0.size': HALF,
            'test_dataloader.dataset.pipeline.1.size': HALF * 8 // 7,  # 256 for 224
            'test_dataloader.dataset.pipeline.2.size': HALF,
        }
    words = ['mvp-mm', 'pretrain', '--data', place, '--out', 'work_dirs/mine']
    words += ['--student', 'vit-tiny' if tiny else 'vit-base', '--epochs', str(epochs)]
    options = [f'{key}={value}' for key, value in values.items()]
    return shlex.join([*words, *(['--cfg-options', *options] if options else [])])
