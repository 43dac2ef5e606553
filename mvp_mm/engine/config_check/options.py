"""Merge ``--cfg-options`` into a config, each checked for its place and kind."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

ABSENT = object()


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merge values by dotted path into a config in place; a wrong place or kind is a ValueError."""
    for option in sorted(options, key=lambda option: not option.endswith('_delete_')):  # deletions first
        found = _find(cfg, option)
        if found is not ABSENT and not option.endswith('_delete_'):
            _require_kind(option, options[option], found)
        cfg.merge_from_dict({option: options[option]})


def _find(cfg: Config, option: str) -> Any:
    """Return what an option replaces, or :data:`ABSENT`; a None on its path becomes a dict."""
    found: Any = cfg
    parts = option.split('.')
    for number, part in enumerate(parts):
        place = '.'.join(parts[:number])
        key: Any = part
        if isinstance(found, tuple):
            raise ValueError(f'--cfg-options {option}: {place} is set as a whole, such as {place}="{found}"')
        if isinstance(found, list):
            if not (part.isdigit() and int(part) < len(found)):
                places = f'give a number from 0 to {len(found) - 1}' if found else 'it is empty'
                wrong = f'{place} is a list of {len(found)}, and {part} is none of its places: {places}'
                raise ValueError(f'--cfg-options {option}: {wrong}')
            key = int(part)
        elif not isinstance(found, Mapping | Config):
            raise ValueError(f'--cfg-options {option}: {place} is {found!r}, which holds no keys')
        elif part not in found:
            return ABSENT
        if found[key] is None and number < len(parts) - 1:
            found[key] = dict(type='Pretrained') if part == 'init_cfg' else {}
        found = found[key]
    return found


def _require_kind(option: str, value: Any, found: Any) -> None:
    """Refuse a value of another kind than what it replaces, which would fail late and obscurely."""
    is_word, is_dict, is_bool = (isinstance(value, kind) for kind in (str, Mapping, bool))
    is_list, is_number = isinstance(value, list | tuple), isinstance(value, int | float) and not is_bool
    is_plain = is_word or is_bool or is_number  # or a list of such
    is_plain |= is_list and any(not isinstance(entry, Mapping | list) for entry in value)
    entries = list(found) if isinstance(found, list | tuple) else []
    refused, expected = False, ''
    if isinstance(found, bool):
        refused, expected = is_word or is_list or is_dict, 'True or False'
    elif isinstance(found, int | float):
        refused, expected = is_word or is_bool or is_dict, f'a number, such as {found}'
    elif isinstance(found, str):
        refused = is_number or (is_dict and not option.endswith('arch'))
        expected = f'text, such as {found!r}' + f' (a file of this name: ./{value})' * is_number
    elif isinstance(found, Mapping):
        refused = is_plain and option != 'compile' and not (is_word and option.endswith('.arch'))
        expected = f'a dict, as in the config; set one key with {option}.KEY=VALUE'
    elif any(isinstance(entry, Mapping) for entry in entries):
        refused = is_plain
        expected = f'a list of dicts, as in the config; set one entry with {option}.0.KEY=VALUE'
    elif entries and all(isinstance(entry, int | float) for entry in entries):
        refused, expected = is_word or is_bool or is_dict, f'numbers, such as "{found}"'
    if refused:
        raise ValueError(f'--cfg-options {option}={value}: expected {expected}')
