"""What the experiment consists of: jobs that can be run one by one, in any number of sittings."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """How a student learns.

    Args:
        config: Below ``configs``.
        label: One line for the table.
        epochs_factor: Epochs as a share of the others'.
    """

    config: str
    label: str
    epochs_factor: float = 1.0


ALONE = 'rils/vittiny_photographs_clip.py'
METHODS = {
    'rils': Method('rils/vittiny_photographs.py', 'RILS'),
    'clip': Method(ALONE, "CLIP alone, RILS's steps"),
    'clip-long': Method(ALONE, "CLIP alone, RILS's multiply-adds: 1.5 times the steps", 1.5),
}


@dataclass(frozen=True)
class Budget:
    """How long everything is trained.

    Args:
        seeds: Seeds of the students.
        epochs: Epochs, as the methods with factor 1 have.
        workers: Loader workers of a training.
    """

    seeds: tuple[int, ...]
    epochs: int
    workers: int = 1


BUDGETS = {'2h': Budget((0,), 16), 'gpu': Budget((0,), 30, workers=4)}


@dataclass(frozen=True)
class Job:
    """One job: the training of a student, and its figures.

    Args:
        name: Unique; its result is kept under it.
        kind: ``'train'``.
        method: A name of ``METHODS``.
        seed: Of the student.
        needs: Names of the jobs whose results it reads.
    """

    name: str
    kind: str
    method: str
    seed: int
    needs: tuple[str, ...] = ()


def plan(methods: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """All jobs of an experiment, each after what it needs, a whole table of one seed first.

    Raises:
        ValueError: If a method is unknown.
    """
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        raise ValueError(f'unknown method {", ".join(unknown)}; there are {", ".join(METHODS)}')
    return [Job(f'train-{name}-s{seed}', 'train', name, seed) for seed in seeds for name in methods]
