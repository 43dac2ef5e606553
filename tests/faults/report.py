"""The sweep's figures as a page."""

from collections import Counter
from collections.abc import Sequence

import torch

from benchmarks.processor import describe_machine

from .kills import KILLED_IN, Baseline, Outcome


def heading(command: str) -> str:
    """Title, command, machine and versions."""
    machine = '\n'.join(describe_machine(torch.device('cpu')))
    return (
        f'# Faults on purpose, CPU\n\n```bash\n{command}\n```\n\n{machine}\n\n'
        'The run: configs/mvp/vittiny_debug.py with one layer, on 64 generated images; two batches of 8 are '
        'accumulated, a checkpoint is written every 2 iterations, an evaluation made after each epoch of 8. '
        '"The same" means: sha256 over all tensors of the weights and of the optimiser (names, types, '
        'shapes, bytes) in the last checkpoint is that of the run that was not disturbed, and each iteration '
        'had the same samples, both times where it was done again.'
    )


def kills_section(title: str, whole: Baseline, outcomes: Sequence[Outcome]) -> str:
    """How many kills hit which phase, and what became of the runs.

    Args:
        title: Heading.
        whole: The run to compare with.
        outcomes: One a kill.

    Returns:
        Markdown.
    """
    hit = Counter(outcome.fault for outcome in outcomes)
    rows = []
    for phase in [*KILLED_IN, *sorted(set(hit) - set(KILLED_IN))]:
        of_phase = [outcome for outcome in outcomes if outcome.fault == phase]
        repeated = [max(0, outcome.done - outcome.went_on_from) for outcome in of_phase]
        rows.append(
            f'| {phase} | {len(of_phase)} | {sum(outcome.same for outcome in of_phase)} | '
            f'{max(repeated, default=0)} |'
        )
    same = sum(outcome.same for outcome in outcomes)
    restarts = sorted(outcome.seconds for outcome in outcomes if outcome.seconds)
    told = (
        f' From the kill until training went on: {restarts[0]:.0f} to {restarts[-1]:.0f} s, of which most is '
        'the import of the libraries.'
        if restarts
        else ''
    )
    return (
        f'## {title}\n\n**{same} of {len(outcomes)} the same.** Baseline: {whole.position.done} '
        f'iterations, sha256 {whole.digest[:16]}…{told}\n\n'
        '| killed in | times | the same | iterations done again, at most |\n|---|---|---|---|\n'
        + '\n'.join(rows)
        + _differences(outcomes)
    )


def truncations_section(outcomes: Sequence[Outcome]) -> str:
    """What became of runs whose last checkpoint was cut."""
    same = sum(outcome.same for outcome in outcomes)
    listed = ', '.join(outcome.fault.split(' ')[0] for outcome in outcomes)
    size = outcomes[0].fault.split(' ')[2]
    return (
        '## The last checkpoint cut at a random length\n\n'
        f'**{same} of {len(outcomes)} the same**: each time the damage was named, the checkpoint before it '
        f'taken. Bytes left of {size}: {listed}.{_differences(outcomes)}'
    )


def _differences(outcomes: Sequence[Outcome]) -> str:
    """What is known of the runs that ended otherwise; '' if there are none."""
    lines = [
        f'\n* number {number}, hit in {outcome.fault}'
        + (f' after {outcome.done} iterations' if outcome.done >= 0 else '')
        + f', went on from {outcome.went_on_from}: {outcome.difference}'
        for number, outcome in enumerate(outcomes)
        if not outcome.same
    ]
    return '\n\nNot the same:\n' + ''.join(lines) if lines else ''


def bad_images_section(images: int, spoilt: dict, listed: dict) -> str:
    """Which bad images were found.

    Args:
        images: Of the training.
        spoilt: The bad ones, and in which way.
        listed: Those of ``bad_images.txt``, and why.

    Returns:
        Markdown.
    """
    exactly = 'exactly these are' if spoilt.keys() == listed.keys() else 'NOT exactly these are'
    rows = []
    for way in dict.fromkeys(spoilt.values()):
        paths = [path for path in spoilt if spoilt[path] == way]
        found = [path for path in paths if path in listed]
        reason = listed[found[0]].replace(str(found[0]), 'FILE') if found else ''
        rows.append(f'| {way} | {len(paths)} | {len(found)} | {reason} |')
    return (
        f'## {images} images, {len(spoilt)} of them bad\n\n'
        f'Training finished, and {exactly} in bad_images.txt ({len(listed)} lines).\n\n'
        "| in which way | images | listed | the first one's reason |\n|---|---|---|---|\n" + '\n'.join(rows)
    )


def all_same(outcomes: Sequence[Outcome]) -> bool:
    """Whether every run ended as the undisturbed one did."""
    return all(outcome.same for outcome in outcomes)
