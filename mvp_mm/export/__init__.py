"""Export weights to other libraries, each file checked in the library that is to open it."""

from ..renamed import old_names
from .exporter import TARGETS, export
from .parity import ParityError, ParityReport
from .student import ExportedStudent, load_student
from .target import ExportTarget

__all__ = [
    'TARGETS',
    'ExportTarget',
    'ExportedStudent',
    'ParityError',
    'ParityReport',
    'export',
    'load_student',
]

__getattr__ = old_names(__name__, Student='ExportedStudent')
