"""Options of a command line, checked one by one for their place and kind, and merged into a config."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

ABSENT = object()


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merge options into a config, as MMEngine does where it does not fail.

    A path may go through what is None, which then is a dict.

    Args:
        cfg: Changed in place.
        options: Values by dotted path.

    Raises:
        ValueError: If a path leads nowhere, or a value is of another kind than the config's.
    """
    deletions_first = sorted(options.items(), key=lambda option: not option[0].endswith('_delete_'))
    for option, value in deletions_first:
        found = _find(cfg, option)
        _open_nones(cfg, option)
        if found is not ABSENT and not option.endswith('_delete_'):
            _require_kind(option, value, found)
        cfg.merge_from_dict({option: value})


def _find(cfg: Config, option: str) -> Any:
    """What an option replaces, or :data:`ABSENT`."""
    found: Any = cfg
    parts = option.split('.')
    for number, part in enumerate(parts):
        place = '.'.join(parts[:number])
        if isinstance(found, tuple):
            raise ValueError(f'--cfg-options {option}: {place} is set as a whole, such as {place}="{found}"')
        if isinstance(found, list):
            if not (part.isdigit() and int(part) < len(found)):
                allowed = f'give a number from 0 to {len(found) - 1}' if found else 'it is empty'
                raise ValueError(
                    f'--cfg-options {option}: {place} is a list of {len(found)}, and {part} is none of its '
                    f'places: {allowed}'
                )
            found = found[int(part)]
        elif isinstance(found, Mapping | Config):
            found = found.get(part, ABSENT)
        elif found is None or found is ABSENT:
            return ABSENT
        else:
            raise ValueError(
                f'--cfg-options {option}: {place} is {found!r}, which holds no keys: set {place} itself'
            )
    return found


def _open_nones(cfg: Config, option: str) -> None:
    """Put a dict where an option's path goes through None."""
    found: Any = cfg
    for part in option.split('.')[:-1]:
        key = int(part) if isinstance(found, list) else part
        if isinstance(found, Mapping | Config) and key not in found:
            return
        if found[key] is None:
            found[key] = dict(type='Pretrained') if part == 'init_cfg' else {}
        found = found[key]


def _require_kind(option: str, value: Any, found: Any) -> None:
    """Refuse a value of another kind than what it replaces, which fails late and in terms of the code."""
    expected = None
    is_word, is_plain = isinstance(value, str), isinstance(value, str | int | float)
    if isinstance(found, bool):
        expected = 'True or False' if is_word or isinstance(value, list | tuple | Mapping) else None
    elif isinstance(found, int | float):
        expected = f'a number, such as {found}' if is_word or isinstance(value, bool | Mapping) else None
    elif isinstance(found, str):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(value, Mapping) and not option.endswith('arch') or number:
            expected = f'text, such as {found!r}' + (f' (a file of this name: ./{value})' if number else '')
    elif isinstance(found, list | tuple) and found:
        of_dicts = any(isinstance(entry, Mapping) for entry in found)
        of_numbers = all(isinstance(entry, int | float) for entry in found)
        if of_dicts and is_plain or of_dicts and _holds_plain(value):
            expected = f'a list of dicts, as in the config; set one entry with {option}.0.KEY=VALUE'
        elif of_numbers and (is_word or isinstance(value, bool | Mapping)):
            expected = f'numbers, such as "{found}"'
    elif isinstance(found, Mapping) and option != 'compile' and not (is_word and option.endswith('.arch')):
        other = is_plain or _holds_plain(value)
        expected = f'a dict, as in the config; set one key with {option}.KEY=VALUE' if other else None
    if expected is not None:
        raise ValueError(f'--cfg-options {option}={value}: expected {expected}')


def _holds_plain(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(not isinstance(entry, Mapping | list) for entry in value)
