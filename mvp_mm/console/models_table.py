"""The zoo as a table."""

from rich.console import Console
from rich.table import Table

from ..zoo import find_entry, list_models
from ..zoo.custom_zoos import all_entries
from ..zoo.entries import Entry

COLUMNS = ('name', 'task', 'parameters', 'multiply-adds', 'paper', 'here', 'weights')


def print_models(pattern: str = '*', task: str | None = None, pretrained: bool = False) -> None:
    """Print what :func:`mvp_mm.list_models` returns; ValueError if there is no such task or model."""
    names, entries = list_models(pattern, task, pretrained), all_entries()
    if not names and not set(pattern) & set('*?['):
        find_entry(pattern)  # suggests near names
    if not names:
        raise ValueError(f'no model has a name like {pattern!r}; `mvp-mm models` lists all')
    meaning = 'paper: what it reports; here: what this project, or a lab, has measured'
    if len(names) > 1:
        meaning += '; `mvp-mm models NAME` says which figure is what'
    table = Table(*COLUMNS, caption=meaning)
    table.columns[0].no_wrap = True  # whole, for `mvp-mm download`
    table.columns[0].min_width = max(map(len, names))
    for name in names:
        table.add_row(*cells(entries[name]))
    console = Console()
    # a file or a pipe has no width: give every row its line
    Console(width=None if console.is_terminal else 250).print(table)
    if len(names) == 1:
        print(details(entries[names[0]]))


def cells(entry: Entry) -> tuple[str, ...]:
    """An entry's row."""
    return (
        entry.name,
        entry.task,
        _counted(entry.parameters),
        _counted(entry.flops),
        ', '.join(f'{value:g}' for value in entry.paper.values()),
        ', '.join(f'{value:g}' for value in entry.results.values()) or 'not measured',
        entry.zoo if entry.weights else '',
    )


def details(entry: Entry) -> str:
    """What the row has no room for: files, and every figure with its name."""
    lines = [(name, getattr(entry, name)) for name in ('config', 'weights', 'sha256', 'note')]
    lines += [(f'paper: {metric}', f'{value:g}') for metric, value in entry.paper.items()]
    lines += [(f'here: {metric}', f'{value:g}') for metric, value in entry.results.items()]
    return '\n'.join(f'{name}: {value}' for name, value in lines if value)


def _counted(number: int | None) -> str:
    """``86530984`` as ``'86.5 M'``."""
    for unit, size in (('G', 1e9), ('M', 1e6), ('k', 1e3)):
        if number and number >= size:
            return f'{number / size:.3g} {unit}' if number < 1000 * size else f'{number / size:.0f} {unit}'
    return str(number or '')
