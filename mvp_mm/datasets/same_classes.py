"""Whether two datasets number the same classes alike."""

from collections.abc import Sequence
from typing import Any


def classes_of(dataset: Any) -> tuple[str, ...]:
    """Return the names of a dataset's classes; none where it does not tell."""
    return tuple((getattr(dataset, 'metainfo', None) or {}).get('classes') or ())


def differing(names: Sequence[str], others: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of names that one number stands for, where they differ."""
    return [pair for pair in zip(names, others, strict=False) if pair[0] != pair[1]]


def require_same_classes(train: Any, val: Any) -> None:
    """Raise ValueError if two datasets that both name their classes have different ones, or another order."""
    names = classes_of(train), classes_of(val)
    if not all(names) or names[0] == names[1]:
        return
    pairs = differing(*names)
    told = 'the first difference: {!r} and {!r}'.format(*pairs[0]) if pairs else 'one has more'
    raise ValueError(
        f'training and validation images have different classes ({told}): both need the same ones in the '
        'same order'
    )
