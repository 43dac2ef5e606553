"""The protocol from base to new classes (CoCoOp §4.1)."""

from ..compilation import require_choice


def classes_of(subset: str, num_classes: int) -> range:
    """Return the labels of ``'all'``, ``'base'`` (first half, rounded up), ``'new'``; ValueError if none."""
    require_choice(subset, 'classes', ('all', 'base', 'new'))
    if subset != 'all' and num_classes < 2:
        raise ValueError(f'classes={subset!r} needs two classes or more, there are {num_classes}')
    half = (num_classes + 1) // 2
    return dict(all=range(num_classes), base=range(half), new=range(half, num_classes))[subset]


def harmonic_mean(base: float, new: float) -> float:
    """Return H of two accuracies; 0 if one of them is."""
    return 2 * base * new / (base + new) if base and new else 0.0
