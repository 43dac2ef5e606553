"""Weights into other libraries' formats, each file checked in the library that is to open it."""

from .exporter import TARGETS, export
from .parity import ParityError, ParityReport
from .student import Student, load_student
from .target import ExportTarget

__all__ = [
    'TARGETS',
    'ExportTarget',
    'ParityError',
    'ParityReport',
    'Student',
    'export',
    'load_student',
]
