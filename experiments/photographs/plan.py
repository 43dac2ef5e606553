"""What the experiment consists of: jobs that can be run one by one, in any number of sittings."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..recipes import Recipe, tuned

PHOTOGRAPHS = 32000  # of the 160 classes that trainings may see
CLIP, DINO = 'clip', 'dino'
TEACHERS = {  # configs, and photographs a step
    CLIP: ('teachers/clip_vittiny_photographs.py', 128),
    DINO: ('teachers/dino_vittiny_photographs.py', 64),
}


@dataclass(frozen=True)
class Method:
    """How a student learns before it meets labels.

    Args:
        config: Pre-training config below ``configs``; '' for none (from scratch).
        label: One line for the table.
        teacher: A name of ``TEACHERS``; '' for none.
        options: Config options beside it.
        backbone: Options of the downstream backbone that differ from MVPViT's defaults.
        steps_factor: Steps as a share of the others'.
        batch: Photographs a step.
    """

    config: str
    label: str
    teacher: str = ''
    options: dict = field(default_factory=dict)
    backbone: dict = field(default_factory=dict)
    steps_factor: float = 1.0
    batch: int = 64


def _of_captions(config: str, label: str, steps_factor: float = 1.0) -> Method:
    """A config of RILS, whose encoder goes downstream as a plain one with absolute positions."""
    plain = dict(use_abs_pos_emb=True, use_rel_pos_bias=False, layer_scale_init_value=0.0)
    return Method(f'rils/{config}.py', label, backbone=plain, steps_factor=steps_factor, batch=128)


MVP = 'mvp/vittiny_photographs.py'
CLEANED = {'model.target_generator.tokens': 'csa', 'model.target_generator.clean_cls': False}
METHODS = {
    'scratch': Method('', 'no pre-training'),
    'pixel': Method('mvp/vittiny_photographs_pixel.py', 'pixels of each patch'),
    'dino': Method('mvp/vittiny_photographs_dino.py', 'tokens of the vision-only teacher', DINO),
    'clip': Method(MVP, 'last tokens of CLIP in the joint space (MVP)', CLIP),
    'clip-csa': Method(MVP, 'MVP, cleaned tokens of CLIP: csa', CLIP, CLEANED),
    'clip-masked-only': Method(
        MVP, 'MVP, loss on masked patches and CLS', CLIP, {'model.loss.tokens': 'masked'}
    ),
    'rils': _of_captions('vittiny_photographs', 'RILS'),
    'rils-clip': _of_captions('vittiny_photographs_clip', "CLIP alone, RILS's steps"),
    'rils-clip-long': _of_captions(
        'vittiny_photographs_clip', "CLIP alone, RILS's multiply-adds: 1.5 times the steps", 1.5
    ),
}
CAPTIONED = ('rils', 'rils-clip', 'rils-clip-long')
MAIN = ('scratch', 'pixel', 'dino', 'clip', 'clip-csa', 'clip-masked-only', 'rils')


@dataclass(frozen=True)
class Budget:
    """How long everything is trained.

    Args:
        seeds: Seeds: of teachers, of students and of labelled sets.
        steps: Steps of the students with factor 1.
        teacher_steps: Of each teacher.
        labels: Labels a class of the fine-tuning; none is done without.
        finetune_steps: Of each fine-tuning.
        street_labels: Labelled street scenes of the segmentation.
        segment_steps: Of each segmentation.
        workers: Loader workers of a training.
    """

    seeds: tuple[int, ...]
    steps: int
    teacher_steps: int = 0
    labels: tuple[int, ...] = ()
    finetune_steps: int = 0
    street_labels: tuple[int, ...] = ()
    segment_steps: int = 0
    workers: int = 1


BUDGETS = {
    '2h': Budget((0,), 4000),
    'short': Budget((0,), 250, 500, (10,), 60, (50,), 60),
    'evening': Budget((0, 1, 2), 2000, 4000, (10, 50), 600, (50, 367), 400),
    'night': Budget((0, 1, 2), 2000, 4000, (10, 50), 600, (50, 367), 1600),
    'gpu': Budget((0, 1, 2), 4000, 8000, (10, 50), 600, (50, 367), 800, workers=4),
}
METHODS_OF = dict.fromkeys(BUDGETS, MAIN) | {'2h': CAPTIONED}  # unless others are given

# Heads from nothing want a high rate, a pre-trained backbone a low one; or one for all of the network.
FINETUNE = Recipe(4e-3, 0.65), Recipe(2e-3, 1.0)
SEGMENT = Recipe(2e-2, 0.35), Recipe(1e-2, 1.0)
TUNING_SEED = 1000  # of the labelled set on which recipes are chosen


@dataclass(frozen=True)
class Job:
    """One job.

    Args:
        name: Unique; its result is kept under it.
        kind: ``'teach'``, ``'train'`` (a student), ``'measure'``, ``'measure-teacher'``, ``'finetune'`` or
            ``'segment'``.
        method: A name of ``METHODS``, or of ``TEACHERS``.
        seed: Of the network, and of the labelled set.
        needs: Names of the jobs whose results it reads.
        labels: Labels a class, or labelled street scenes.
        frozen: Train the heads only (``'segment'``).
        recipe: None takes the best of the tuning jobs among ``needs``.
    """

    name: str
    kind: str
    method: str
    seed: int
    needs: tuple[str, ...] = ()
    labels: int = 0
    frozen: bool = False
    recipe: Recipe | None = None


def plan(methods: Sequence[str], seeds: Sequence[int], length: Budget) -> list[Job]:
    """All jobs of an experiment, each after what it needs, a whole table of one seed first.

    Args:
        methods: Names of ``METHODS``.
        seeds: Seeds.
        length: What is done with each student, and with how many labels.

    Raises:
        ValueError: If a method is unknown.
    """
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        raise ValueError(f'unknown method {", ".join(unknown)}; there are {", ".join(METHODS)}')
    jobs = []
    for seed in seeds:
        jobs += [Job(f'teach-{name}-s{seed}', 'teach', name, seed) for name in _teachers_of(methods) if name]
        jobs += [
            Job(f'train-{name}-s{seed}', 'train', name, seed, _needs_of_training(name, seed))
            for name in methods
            if METHODS[name].config
        ]
        if not length.labels:
            continue
        jobs += [
            Job(f'measure-teacher-{name}-s{seed}', 'measure-teacher', name, seed, (f'teach-{name}-s{seed}',))
            for name in _teachers_of(methods)
        ]
        for name in methods:
            jobs += _of_student(name, seed, seed == seeds[0], length)
    return jobs


def _teachers_of(methods: Sequence[str]) -> list[str]:
    return [name for name in TEACHERS if any(METHODS[method].teacher == name for method in methods)]


def _needs_of_training(name: str, seed: int) -> tuple[str, ...]:
    teacher = METHODS[name].teacher
    return (f'teach-{teacher}-s{seed}',) if teacher else ()


def _of_student(name: str, seed: int, is_first: bool, length: Budget) -> list[Job]:
    """What is measured of a student, and learnt by it from labels."""
    trained = (f'train-{name}-s{seed}',) if METHODS[name].config else ()
    jobs = [Job(f'measure-{name}-s{seed}', 'measure', name, seed, trained)]
    tasks = [('finetune', False, length.labels, FINETUNE)]
    tasks += [('segment', frozen, length.street_labels, SEGMENT) for frozen in (False, True)]
    for kind, frozen, labels, recipes in tasks:
        title = f'{kind}-{name}-frozen' if frozen else f'{kind}-{name}'
        finals = [
            Job(f'{title}-s{seed}-n{count}', kind, name, seed, trained, count, frozen) for count in labels
        ]
        trial = Job('', kind, name, seed, trained, max(labels), frozen) if is_first else None
        jobs += tuned(finals, title, recipes, trial)
    return jobs
