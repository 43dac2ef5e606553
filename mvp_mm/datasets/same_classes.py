"""Whether two datasets number the same classes alike."""

from typing import Any


def classes_of(dataset: Any) -> tuple[str, ...]:
    """Return the names of a dataset's classes; none where it does not tell."""
    return tuple((getattr(dataset, 'metainfo', None) or {}).get('classes') or ())


def require_same_classes(train: Any, val: Any) -> None:
    """Raise ValueError if two datasets that both name their classes have different ones, or another order."""
    names = classes_of(train), classes_of(val)
    if not all(names) or names[0] == names[1]:
        return
    pairs = (pair for pair in zip(*names, strict=False) if pair[0] != pair[1])
    differing = next(pairs, None)
    told = f'the first difference: {differing[0]!r} and {differing[1]!r}' if differing else 'one has more'
    raise ValueError(
        f'training and validation images have different classes ({told}): both need the same ones in the '
        'same order'
    )
