"""Time several pieces of work turn by turn, so that a machine's moods strike all of them alike."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

import torch


@dataclass
class Timing:
    """The seconds that a variant took, a round each.

    Args:
        seconds: In the order of the rounds.
    """

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median seconds."""
        return median(self.seconds)

    def ratio_to(self, other: 'Timing') -> float:
        """How many times as fast as ``other``: the median over the rounds of each round's own ratio."""
        pairs = zip(other.seconds, self.seconds, strict=True)
        return median(theirs / ours for theirs, ours in pairs)


def synchronise(device: torch.device) -> None:
    """Wait for what the device was given to do."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def tell(line: str) -> None:
    """A line of progress, on the error stream."""
    print(line, file=sys.stderr, flush=True)


def time_interleaved(
    variants: dict[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    warmup: int = 1,
    told: Callable[[str], None] = lambda line: None,
    prepare: Callable[[str], bool] = lambda name: False,
) -> dict[str, Timing]:
    """Run every variant once a round.

    Args:
        variants: Work by name.
        rounds: Rounds that count. The order of the variants turns by one each round.
        device: Where they run.
        warmup: Runs of each before the first round.
        told: Gets a line a round.
        prepare: Gets a variant's name before it runs, and says whether it has changed something that a
            first run would pay for; the variant then runs once without being timed.

    Returns:
        A timing for each variant.
    """
    timings = {name: Timing() for name in variants}
    for name, work in variants.items():
        prepare(name)
        for _ in range(warmup):
            work()
    names = list(variants)
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            if prepare(name):
                variants[name]()
            synchronise(device)
            start = time.perf_counter()
            variants[name]()
            synchronise(device)
            timings[name].seconds.append(time.perf_counter() - start)
        line = ', '.join(f'{name} {timing.seconds[-1]:.3f}' for name, timing in timings.items())
        told(f'round {number + 1} of {rounds}: {line} s')
    return timings


class Phases:
    """Where the time of a step goes.

    Args:
        device: Where it runs. Phases are told apart by waiting for the device, so a step that is timed so
            is a little slower than one that is not.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count what runs within as this phase."""
        synchronise(self.device)
        start = time.perf_counter()
        yield
        synchronise(self.device)
        self.seconds[name].append(time.perf_counter() - start)


def phase_shares(phases: Phases, whole: str = 'step', skip: int = 1) -> dict[str, float]:
    """The median share of each phase.

    Args:
        phases: What was timed.
        whole: The phase that holds the others.
        skip: Steps at the beginning that do not count.

    Returns:
        Shares from 0 to 1, without ``whole``.
    """
    total: Sequence[float] = phases.seconds[whole][skip:]
    return {
        name: median(part / all_ for part, all_ in zip(seconds[skip:], total, strict=True))
        for name, seconds in phases.seconds.items()
        if name != whole
    }
