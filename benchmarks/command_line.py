"""What the benchmarks' command lines have in common."""

import argparse
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mvp_mm.engine import positive_int, run_command_line
from mvp_mm.hardware import fast_precision


@contextmanager
def without_warnings() -> Iterator[None]:
    """While models and optimisers are built within, nothing is logged of how; it is not the matter here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def add_one_heap(parser: argparse.ArgumentParser) -> None:
    """The option of the benchmarks whose variants are whole steps of different packages."""
    parser.add_argument(
        '--one-heap',
        action='store_true',
        help='on a CPU let all variants keep what memory they free; by default only this package does, as in '
        'its trainings',
    )


def run_benchmark(
    text: str,
    benchmark: Callable[..., str],
    batch: tuple[int, int],
    rounds: tuple[int, int],
    more: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> None:
    """Read the command line, measure, print the report, and add it to a file.

    Args:
        text: What the tool says of itself.
        benchmark: Gets ``device``, ``batch``, ``dtype``, ``rounds`` and what ``more`` adds; returns
            Markdown.
        batch: Default on a CPU and on CUDA.
        rounds: Default on a CPU and on CUDA.
        more: Adds arguments.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--batch', type=positive_int, help=f'images (default: {batch[0]} on a CPU, {batch[1]} on CUDA)'
    )
    parser.add_argument(
        '--precision', choices=('bfloat16', 'float32'), help='default: the faster of the two here'
    )
    parser.add_argument(
        '--rounds', type=positive_int, help=f'default: {rounds[0]} on a CPU, {rounds[1]} on CUDA'
    )
    parser.add_argument('--threads', type=positive_int, help="default: torch's own choice")
    parser.add_argument('--out', type=Path, help='Markdown file to add the report to')
    more(parser)
    args: dict[str, Any] = vars(parser.parse_args())

    def measure() -> None:
        if threads := args.pop('threads'):
            torch.set_num_threads(threads)
        device = torch.device(args.pop('device'))
        at = int(device.type == 'cuda')
        out, dtype = args.pop('out'), getattr(torch, args.pop('precision') or fast_precision(device))
        chosen = dict(batch=args.pop('batch') or batch[at], rounds=args.pop('rounds') or rounds[at])
        with without_warnings():
            report = benchmark(device=device, dtype=dtype, **chosen, **args)
        print(f'\n{report}')
        if out:
            with out.open('a') as file:
                file.write(f'{report}\n')
            print(f'Added to {out}')

    run_command_line(measure, quiet=True)
