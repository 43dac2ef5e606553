"""Files of tensors: read them and run nothing in them, name and fit what they hold, fill modules."""

from .load import load
from .report import LoadReport

__all__ = ['LoadReport', 'load']
