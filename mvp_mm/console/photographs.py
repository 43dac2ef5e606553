"""Look at photographs before training on them, and say what to train."""

from collections.abc import Iterator

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape

from ..datasets.prepare.find_unreadable import ODDITIES
from ..datasets.prepare.survey import Survey, survey
from ..engine.hooks.unreadable_images_hook import MAX_SHARE
from ..wording import counted
from .choice import FULL, HALF, TINY, choose
from .doctor import Finding, print_findings

LISTED = 5
QUANTILES = {'smallest': 0.0, '5 %': 0.05, 'median': 0.5, '95 %': 0.95, 'largest': 1.0}
EXTREME = 2.0  # long side over short side, beyond which no crop of the recipe (3:4 to 4:3) shows half


def look_at_photographs(place: str, sample: int = 10_000, workers: int | None = None) -> int:
    """Print what :func:`.survey` finds and what :func:`.choose` advises; return the number of failures."""
    console = Console(highlight=False, soft_wrap=True)
    found = survey(place, sample, workers, progress=console.is_terminal)
    failures = print_findings(console, 'Photographs', photographs(found, place))
    if not found.readable:
        return failures
    advice = choose(found)
    console.print('[bold]What to train[/]')
    for about, what, why, source in advice.choices:
        console.print(f'  {about}: [bold]{escape(what)}[/]: {escape(why)} ({escape(source)})')
    console.print(f'\n{escape(advice.command)}\n')
    if not torch.cuda.is_available():
        console.print('This machine has no GPU: here, --student vit-tiny alone is a trial of minutes.')
    console.print('Each rule, and what is not known: docs/choosing.md')
    return failures


def photographs(found: Survey, place: str) -> Iterator[Finding]:
    """What was found."""
    looked, readable = len(found.looked_at), found.readable
    part = f'; a sample of {looked:,} was looked at (--sample)' if looked < found.count else ''
    yield Finding('ok', f'{counted(found.count, "image")} of {place}, by {found.kind}{part}')
    if faults := [photograph for photograph in found.looked_at if photograph.fault is not None]:
        too_many = len(faults) > MAX_SHARE * looked
        state = 'fail' if too_many else 'note'
        ends = f'training ends at more than {MAX_SHARE:.0%}' if too_many else 'training replaces them'
        told = '; '.join(f'{photograph.path} ({photograph.fault})' for photograph in faults[:LISTED])
        what = f'{len(faults):,} of {looked:,} cannot be read: {told}' + ' ...' * (len(faults) > LISTED)
        yield Finding(state, what, f'list them all: python tools/check_dataset.py DIR --out FILE; {ends}')
    if not readable:
        return
    sides = found.sides()
    yield Finding('ok', f'shorter side in pixels: {_quantiles(sides[:, 0])}')
    ratios = sides[:, 1] / sides[:, 0]
    wide = f'{(ratios > EXTREME).mean():.1%} beyond {EXTREME:g}'
    yield Finding('ok', f'longer side over shorter: {_quantiles(ratios, ".2f")}; {wide}')
    shares = ', '.join(f'{found.smaller_than(side):.1%} than {side}' for side in (FULL, HALF, TINY))
    yield Finding('ok', f'smaller than a crop (shorter side): {shares} pixels')
    if odd := found.oddities():
        listed = '; '.join(f'{count:,} {name} ({ODDITIES[name]})' for name, count in odd.most_common())
        yield Finding('note', f'odd, and read all the same: {listed}')
    among = ' among those looked at, which finds few in a sample' if looked < found.count else ''
    copies = found.copies()
    told = f', such as {copies[0][0]} of {copies[0][1]}' if copies else ''
    what = f'{counted(len(copies), "copy", "copies")}{told} (same bytes, by hash){among}'
    yield Finding('note' if copies else 'ok', what, 'each is trained on as one more image' if copies else '')
    if alike := found.alike():
        what = f'{len(alike):,} look like another, such as {alike[0][0]} and {alike[0][1]}'
        about = 'difference hashes within 3 of 64 bits: sized or compressed anew, or by chance'
        yield Finding('note', f'{what} ({about})')


def _quantiles(values: np.ndarray, form: str = '.0f') -> str:
    found = np.quantile(values, list(QUANTILES.values()))
    return ', '.join(f'{name} {value:{form}}' for name, value in zip(QUANTILES, found, strict=True))
