"""Check a config before anything of it is built: its keys are read, and its values make sense."""

from .keys import TOP_LEVEL as TOP_LEVEL
from .keys import unread_keys as unread_keys
from .options import merge_options as merge_options
from .values import require_device_for as require_device_for
from .values import require_sound_values as require_sound_values
