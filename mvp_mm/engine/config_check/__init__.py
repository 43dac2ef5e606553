"""Check a config before anything of it is built: its keys are read, and its values make sense."""

from .keys import TOP_LEVEL, UnreadKey, unread_keys
from .options import merge_options
from .values import require_device_for, require_sound_values

__all__ = [
    'TOP_LEVEL',
    'UnreadKey',
    'merge_options',
    'require_device_for',
    'require_sound_values',
    'unread_keys',
]
