"""Numbers and lists in the sentences of logs and errors."""

from collections.abc import Iterable


def counted(number: int, noun: str, plural: str = '') -> str:
    """Return ``'1 image'`` or ``'2,000 images'``; ``plural`` if it is not the noun with an s."""
    return f'{number:,} {noun if number == 1 else plural or f"{noun}s"}'


def listed(names: Iterable[str], most: int = 5, separator: str = ', ') -> str:
    """Return the first names, and how many more there are: ``'a, b, c, d, e and 2 more'``."""
    names = list(names)
    more = f'{separator.rstrip(", ")} and {len(names) - most:,} more' if len(names) > most else ''
    return separator.join(names[:most]) + more
