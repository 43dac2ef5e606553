"""Arguments of the command-line tools, and how their errors are reported."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mmengine.config import DictAction

from ..weights.locate import is_address, local_path
from ..wording import listed
from .quiet_log import quiet_log

CERTAIN = (OSError, ValueError, FloatingPointError)  # what a user gets wrong
UNCERTAIN = (RuntimeError, TypeError, KeyError, AssertionError)  # or a mistake in the code
PATHS = ('.data_root', '.ann_file')  # ends of keys


class OptionAction(DictAction):
    """MMEngine's ``key=value`` options, with an error for one of another form; paths of data as they are.

    MMEngine splits a value at commas and removes its spaces.
    """

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        for value in values:
            if '=' not in value:
                raise ValueError(f'{option_string} takes KEY=VALUE, without spaces around =; got {value!r}')
        super().__call__(parser, namespace, values, option_string)
        for key, _, text in (value.partition('=') for value in values):
            if key.endswith(PATHS) and not text.startswith(('[', '(')) and text != 'None':
                getattr(namespace, self.dest)[key] = text.strip('\'"')


def positive_int(text: str) -> int:
    """Argument ``type``: a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a whole number of 1 or more, got {text}')
    return int(text)


def positive_float(text: str) -> float:
    """Argument ``type``: a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'expected a finite number above 0, got {text}')
    return number


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Build a parser with OpenMMLab's options, those that :func:`load_config` takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs, metrics and checkpoints')
    options_help = 'override config values, for example train_dataloader.dataset.data_root=DIR'
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction, help=options_help)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes it beside the LOCAL_RANK that is read.
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
    return parser


def existing_checkpoint(path: str) -> str:
    """Return a checkpoint's path, address or name; FileNotFoundError before a model is built for none."""
    if is_address(path):
        return path
    try:
        local_path(path)
    except FileNotFoundError as error:
        beside = [] if Path(path).is_dir() else sorted(Path(path).parent.glob('*.pth'))
        advice = f'; beside it there is: {listed(file.name for file in beside)}' if beside else ''
        raise FileNotFoundError(f'{error}{advice}') from None
    return path


def run_command_line(main: Callable[[], None], quiet: bool = False) -> None:
    """Call a tool's main function; a user's error becomes one line, unless ``MVP_MM_TRACEBACK=1`` is set.

    ``quiet`` shows warnings and errors of MMEngine's log only.
    """
    try:
        with quiet_log() if quiet else nullcontext():
            main()
    except (*CERTAIN, *UNCERTAIN) as error:
        message = _user_message(error)
        if message is None or os.environ.get('MVP_MM_TRACEBACK') == '1':
            raise
        processes = os.environ.get('WORLD_SIZE', '1')
        which = '' if processes == '1' else f' (process {os.environ.get("RANK", "?")} of {processes})'
        sys.exit(f'\nERROR{which}: {message}\n(MVP_MM_TRACEBACK=1 shows where it came from.)')


def _user_message(error: Exception) -> str | None:
    """Return what to tell the user, or None where an error is a mistake in the code."""
    text = str(error)
    if isinstance(error, RuntimeError) and 'by peer' in text:
        return (
            'another process of this job has ended. Why is in its own error, and in the summary at the end; '
            'go on from the last checkpoint with --resume'
        )
    # of the config: a key that no class takes, or a name that is not registered
    of_config = 'unexpected keyword argument' in text or ' registry. ' in text
    of_config |= 'ann_file' in text  # of mmseg's VOC and Context
    if isinstance(error, UNCERTAIN) and not of_config:
        return None
    if text.startswith('Caught ') and ' DataLoader worker ' in text:  # torch puts the traceback before it
        text = text.rsplit(f'{type(error).__name__}: ', 1)[-1].rstrip()
    return text
