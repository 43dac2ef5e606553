"""Markdown tables of figures over seeds."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev


def markdown(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A table with the names of rows and columns."""
    lines = [f'| {name} | {" | ".join(cells)} |' for name, cells in rows.items()]
    return '\n'.join([f'| | {" | ".join(columns)} |', '|---' * (len(columns) + 1) + '|', *lines])


def mean_and_spread(values: Sequence[float], digits: int = 1) -> str:
    """Their mean and, of several, ± their sample standard deviation; nothing of none."""
    if not values:
        return ''
    text = f'{mean(values):.{digits}f}'
    return text if len(values) == 1 else f'{text} ± {stdev(values):.{digits}f}'
