"""Channel means and standard deviations: three numbers each."""

import math
from typing import Any

OTHER_SCALE = 10  # no statistics of the 0–1 scale come near; those of the 0–255 scale are above


def channel_statistics(values: Any, source: str, is_std: bool, scale: int = 1) -> tuple[float, ...]:
    """Check the mean or the standard deviation of three channels.

    Args:
        values: What was given.
        source: Where it comes from, for the message, such as ``'teacher_std'``.
        is_std: Whether it is a standard deviation, which must be above 0.
        scale: 1 or 255: the value of a white pixel.

    Returns:
        Three numbers.

    Raises:
        ValueError: If they are not three finite numbers, a standard deviation is not above 0, or numbers
            of the 0–1 scale are plainly of the other one.
    """
    expected = f'expected three {"numbers above 0" if is_std else "numbers"}, of the 0-{scale} scale'
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise ValueError(f'{source}={values!r}: {expected}') from None
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)) or (is_std and min(numbers) <= 0):
        raise ValueError(f'{source}={values!r}: {expected}')
    if scale == 1 and max(map(abs, numbers)) > OTHER_SCALE:
        raise ValueError(f'{source}={values!r}: {expected}; divide them by 255')
    return numbers
