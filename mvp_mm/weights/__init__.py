"""Files of tensors: read them and run nothing in them, name and fit what they hold, fill modules, write."""

from .load import LoadReport as LoadReport
from .load import load as load
