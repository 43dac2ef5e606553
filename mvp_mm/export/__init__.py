"""Export weights to other libraries, each file checked in the library that is to open it."""

from ..renamed import old_names
from .exporter import TARGETS as TARGETS
from .exporter import ParityError as ParityError
from .exporter import ParityReport as ParityReport
from .exporter import export as export
from .student import ExportedStudent as ExportedStudent
from .student import load_student as load_student
from .target import ExportTarget as ExportTarget

__getattr__ = old_names(__name__, Student='ExportedStudent')
