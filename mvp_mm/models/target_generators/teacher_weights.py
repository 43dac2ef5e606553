"""A teacher's weights: does a file fill it, and what stands in where there is none."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor

from ...weights.read import require_finite

RANDOM_TEACHER_SEED = 0


@contextmanager
def same_random_weights() -> Iterator[None]:
    """Initialise what is built inside the same way every time, and leave the process's draws alone.

    So a later test of a checkpoint meets the random teacher that it was trained with.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_TEACHER_SEED)
        yield


def warn_of_random_weights(model_name: str, real: str) -> None:
    """Say loudly that a teacher is random, and what ``pretrained`` would make it a real one."""
    print_log(
        f'The teacher {model_name} has RANDOM weights (pretrained=None). This is for tests and benchmarks: '
        'a student trained from it learns nothing of use. Give model.target_generator.pretrained '
        f'{real} or a weight file to pre-train for real.',
        logger='current',
        level=logging.WARNING,
    )


def warn_of_other_statistics(
    weights: Path, model_name: str, taken: tuple[tuple, tuple], known: dict[tuple[tuple, tuple], list[str]]
) -> None:
    """Say which mean and std are taken for a weight file that does not tell, where other weights have others.

    Args:
        weights: The file.
        model_name: The network.
        taken: The mean and std that are taken.
        known: The tags that each mean and std is known of.
    """
    others = '; '.join(
        f'{", ".join(tags)}: mean {mean}, std {std}'
        for (mean, std), tags in known.items()
        if (mean, std) != taken
    )
    print_log(
        f'{weights} does not tell the mean and std of the images it was trained on, and not all weights '
        f'of {model_name} have the same: taken are mean {taken[0]}, std {taken[1]} ({others}). If that is '
        'wrong, give model.target_generator.teacher_mean and teacher_std',
        logger='current',
        level=logging.WARNING,
    )


def require_fit(
    weights: dict[str, Tensor], own: dict[str, Tensor], path: Path, model_name: str, prefix: str = ''
) -> None:
    """Check that a file fills every entry of a network with finite numbers.

    Args:
        weights: What the file holds.
        own: The network's state dict.
        path: The file, for the message.
        model_name: The network, for the message.
        prefix: What the names start with in the file, for the message.

    Raises:
        ValueError: If an entry is missing, has another shape or is not finite; names the first one.
    """
    for key, value in own.items():
        if key not in weights:
            raise ValueError(f'{path} does not fit {model_name}: it has no {prefix}{key}')
        if weights[key].shape != value.shape:
            raise ValueError(
                f'{path} does not fit {model_name}: {prefix}{key} has shape {tuple(weights[key].shape)}, '
                f'expected {tuple(value.shape)}. Give the model_name that the file was made with'
            )
    require_finite({f'{prefix}{key}': weights[key] for key in own}, path)
