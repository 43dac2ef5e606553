"""What the experiment consists of: jobs that can be run one by one, in any number of sittings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..recipes import Recipe, tuned

CHANCE = 'chance'


@dataclass(frozen=True)
class Pretraining:
    """What a student is trained by before it meets labels.

    Args:
        config: Pre-training config below ``configs``; '' for none (from scratch).
        options: Config options beside it.
        backbone: Options of the downstream backbone that differ from MVPViT's defaults.
        epochs_factor: Epochs as a share of the others'.
        label: One line for the table.
        has_targets: Whether it is by MVP, whose student can be watched.
        has_text: Whether a text encoder learns beside the student (RILS), which can be watched by names.
        batch: Scenes a step.
        student: What the names of its pre-training and segmentation configs begin with.
        start: Weight file of a student that is there already.
    """

    config: str
    label: str
    options: dict = field(default_factory=dict)
    backbone: dict = field(default_factory=dict)
    epochs_factor: float = 1.0
    has_targets: bool = True
    has_text: bool = False
    batch: int = 64
    student: str = 'vittiny'
    start: str = ''


PLAIN_VIT = dict(bias=True, use_abs_pos_emb=True, use_rel_pos_bias=False, layer_scale_init_value=0.0)
WIDE = dict(embed_dims=144, num_heads=4, feedforward_channels=576)
CLIP = 'mvp/vittiny_scenes.py'
CONV = 'mvp/convtiny_scenes.py'
SHIPPED = str(Path(__file__).parents[2] / 'configs/mvp/vittiny_scenes.safetensors')
UNMASKED = {
    f'{phase}_dataloader.dataset.pipeline.{step}.num_masking_patches': 0
    for phase, step in (('train', 3), ('val', 0), ('test', 0))
}


def _of_captions(config: str, label: str, epochs_factor: float = 1.0) -> Pretraining:
    """A config of RILS, whose encoder goes downstream as a plain one with absolute positions."""
    backbone = dict(use_abs_pos_emb=True, use_rel_pos_bias=False, layer_scale_init_value=0.0)
    config = f'rils/vittiny_scenes{config}.py'
    return Pretraining(
        config, label, {}, backbone, epochs_factor, has_targets=False, has_text=True, batch=128
    )


PRETRAININGS = {
    'scratch': Pretraining('', 'no pre-training'),
    'pixel': Pretraining('mvp/vittiny_scenes_pixel.py', 'pixels of each patch'),
    'dino': Pretraining('mvp/vittiny_scenes_dino.py', 'tokens of the vision-only teacher'),
    'clip': Pretraining(CLIP, 'tokens of CLIP in the joint space (MVP)'),
    'clip-dino': Pretraining('mvp/vittiny_scenes_clip_dino.py', 'CLIP and the vision-only teacher at once'),
    # what the teacher's tokens are: names match these better than the paper's, which are `clip`
    **{
        f'clip-{tokens}': Pretraining(
            CLIP,
            f'MVP, the last block of CLIP changed: {tokens}',
            {'model.target_generator.tokens': tokens, 'model.target_generator.clean_cls': False},
        )
        for tokens in ('value', 'neighbour', 'kk', 'csa')
    },
    # the paper's ablations
    'clip-masked-only': Pretraining(
        CLIP, 'MVP, loss on masked patches and CLS', {'model.loss.tokens': 'masked'}
    ),
    'clip-no-cls': Pretraining(CLIP, 'MVP, loss without CLS', {'model.loss.cls_weight': 0.0}),
    'clip-third': Pretraining(CLIP, 'MVP, a third of the epochs (100 of 300)', epochs_factor=1 / 3),
    'clip-wide': Pretraining(
        CLIP,
        'MVP, a student half as wide again',
        {
            **{f'model.backbone.arch.{key}': value for key, value in WIDE.items()},
            'model.neck.in_channels': WIDE['embed_dims'],
        },
        {'arch': WIDE},
    ),
    # the deployed student, of as many parameters and multiply-adds: convolutions
    'conv-scratch': Pretraining('', 'a ConvNeXt, no pre-training', student='convtiny'),
    'conv-clip': Pretraining(CONV, 'MVP, a ConvNeXt: masked patches are painted', student='convtiny'),
    'conv-distil': Pretraining(
        CONV, 'a ConvNeXt, nothing masked: feature distillation', UNMASKED, student='convtiny'
    ),
    # does going on cost what was known?
    'shipped': Pretraining('', 'MVP, the shipped student', start=SHIPPED),
    'shipped-on': Pretraining(
        CLIP,
        'MVP, going on from the shipped student by the same teacher',
        {'load_from': SHIPPED, 'optim_wrapper.optimizer.lr': 2.5e-4},  # with its head
        epochs_factor=0.5,
    ),
    # other methods, by mmpretrain's own classes
    'mae': Pretraining(
        'mvp/vittiny_scenes_mae.py', "mmpretrain's MAE", backbone=PLAIN_VIT, has_targets=False
    ),
    'simmim': Pretraining('mvp/vittiny_scenes_simmim.py', "mmpretrain's SimMIM", has_targets=False),
    'beit': Pretraining(
        'mvp/vittiny_scenes_beit.py', "mmpretrain's BEiT, tokens by k-means", has_targets=False
    ),
    # images and captions from a cold start, without a teacher
    'rils': _of_captions('', 'RILS'),
    'rils-clip': _of_captions('_clip', "CLIP alone, RILS's steps"),
    'rils-clip-long': _of_captions('_clip', "CLIP alone, RILS's multiply-adds: 1.5 times the steps", 1.5),
    'rils-mae': _of_captions('_mae_clip', 'MAE and CLIP'),
}
MAIN = ('scratch', 'pixel', 'dino', 'clip')
CAPTIONED = ('rils', 'rils-clip', 'rils-mae')  # of equal steps


# Heads from nothing want a high rate, a pre-trained backbone a low one; or one for all of the network.
GENTLE, EVEN = Recipe(2e-2, 0.35), Recipe(1e-2, 1.0)


@dataclass(frozen=True)
class Budget:
    """How long everything is trained, and on how much.

    Args:
        seeds: Seeds, of students and of labelled sets.
        labels: Numbers of labelled scenes.
        scenes: Unlabelled scenes.
        epochs: Epochs over them, as the guidances with factor 1 have.
        steps: Steps of each segmentation training.
        recipes: Learning rates and layer decays of the segmentation that each guidance may choose from,
            on validation scenes and one labelled set of its own.
        frozen: Also with a frozen backbone.
        watched: Tenths of a pre-training after which its student is looked at: by names, without labels.
        share: Of each pre-training that is run: less than 1 stops it early, on the schedule of the whole.
    """

    seeds: tuple[int, ...]
    labels: tuple[int, ...]
    scenes: int
    epochs: int
    steps: int
    recipes: tuple[Recipe, ...]
    frozen: bool = False
    watched: tuple[int, ...] = ()
    share: float = 1.0


BUDGETS = {
    '10min': Budget((0,), (300,), 16000, 3, 250, (GENTLE, EVEN)),
    '1h': Budget((0, 1), (100, 300), 32000, 4, 500, (GENTLE, EVEN)),
    'full': Budget((0, 1, 2), (100, 300, 1000), 32000, 4, 1000, (GENTLE, EVEN), frozen=True),
    'names': Budget((0, 1, 2), (300,), 32000, 4, 1000, (GENTLE,), watched=(1, 10)),
    'tenth': Budget((0, 1, 2), (), 32000, 4, 0, (GENTLE,), watched=(1,), share=0.1),
    # comparable with 'full': students see as many scenes, segmentations learn by the recipe that all chose
    'captions': Budget((0, 1, 2), (100, 300, 1000), 32000, 4, 1000, (GENTLE,), frozen=True, watched=(10,)),
    'gpu': Budget(
        (0, 1, 2, 3, 4),
        (100, 300, 1000),
        200000,
        30,
        3000,
        (GENTLE, EVEN, Recipe(5e-3, 0.35), Recipe(3e-3, 1.0)),
        frozen=True,
    ),
}
GUIDANCES = dict.fromkeys(BUDGETS, MAIN) | {
    'captions': CAPTIONED
}  # those of a length, unless others are given
TUNING_SEED = 1000  # of the labelled set on which recipes are chosen


@dataclass(frozen=True)
class Job:
    """One job: a pre-training, a probe or a segmentation.

    Args:
        name: Unique; its result is kept under it.
        kind: ``'pretrain'``, ``'probe'``, ``'probe-teacher'``, ``'watch'`` or ``'segment'``.
        guidance: A name of ``PRETRAININGS``.
        seed: Seed of the student, and of the labelled set.
        needs: Names of the jobs whose results it reads.
        labels: Labelled scenes (``'segment'``).
        frozen: Train the heads only (``'segment'``).
        recipe: Of ``'segment'``; None takes the best of the tuning jobs among ``needs``.
    """

    name: str
    kind: str
    guidance: str
    seed: int
    needs: tuple[str, ...] = ()
    labels: int = 0
    frozen: bool = False
    recipe: Recipe | None = None


def plan(guidances: Sequence[str], seeds: Sequence[int], labels: Sequence[int], length: Budget) -> list[Job]:
    """All jobs of an experiment, each after what it needs.

    Args:
        guidances: Names of ``PRETRAININGS``.
        seeds: Seeds.
        labels: Numbers of labelled scenes.
        length: Recipes to choose from, and whether frozen backbones are tried.

    Raises:
        ValueError: If a guidance is unknown.
    """
    unknown = sorted(set(guidances) - set(PRETRAININGS))
    if unknown:
        raise ValueError(f'unknown guidance {", ".join(unknown)}; there are {", ".join(PRETRAININGS)}')
    jobs = [
        Job(f'probe-teacher-{name}', 'probe-teacher', name, 0)
        for name in ('clip', 'dino')
        if name in guidances
    ]
    # a whole table of one seed first, so that an early stop leaves one
    for seed in seeds:
        for name in guidances:
            jobs += _of_student(name, seed)
            guidance = PRETRAININGS[name]
            has_figures = guidance.config and (guidance.has_targets or guidance.has_text)
            if length.watched and (name == 'scratch' or has_figures):
                jobs.append(Job(f'watch-{name}-s{seed}', 'watch', name, seed, _pretraining(name, seed)))
            jobs += _segmentations(name, seed, seeds[0], labels, length.recipes)
    if length.frozen:  # compared at one budget
        for seed in seeds:
            for name in guidances:
                if PRETRAININGS[name].config or PRETRAININGS[name].start:
                    jobs += _segmentations(name, seed, seeds[0], [300], length.recipes, frozen=True)
    return jobs


def _of_student(name: str, seed: int) -> list[Job]:
    pretraining = _pretraining(name, seed)
    jobs = [Job(key, 'pretrain', name, seed) for key in pretraining]
    return [*jobs, Job(f'probe-{name}-s{seed}', 'probe', name, seed, pretraining)]


def _segmentations(
    name: str,
    seed: int,
    first_seed: int,
    labels: Sequence[int],
    recipes: Sequence[Recipe],
    frozen: bool = False,
) -> list[Job]:
    """One for each number of labels and, for the first seed, one for each recipe to choose from."""
    pretraining = _pretraining(name, seed)
    title = f'{name}-frozen' if frozen else name
    jobs = [
        Job(f'segment-{title}-s{seed}-n{count}', 'segment', name, seed, pretraining, count, frozen)
        for count in labels
    ]
    trial = Job('', 'segment', name, seed, pretraining, 300, frozen) if seed == first_seed else None
    return tuned(jobs, title, recipes, trial)


def _pretraining(name: str, seed: int) -> tuple[str, ...]:
    return (f'pretrain-{name}-s{seed}',) if PRETRAININGS[name].config else ()
