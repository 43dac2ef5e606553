"""safetensors under this package's own names: the student as it is, in a file that can hold no code."""

from pathlib import Path

from ..models.speaking.speaking_student import NECK, SpeakingStudent
from ..weights.load import fill
from ..weights.read import BACKBONE, read_tensors
from .student import ExportedStudent, classifier_in
from .target import ExportTarget, Outputs, write_safetensors


class SafetensorsTarget(ExportTarget):
    """The student's own names, behind ``backbone.`` with a classifier or with the head of MVP beside it.

    Shared table and mask token stay. Index buffers, which can be large, are left out: they follow from the
    patch grid, which is in the file's metadata.
    """

    library = 'mvp_mm from safetensors'
    suffixes = ('.safetensors',)
    any_student = keeps_neck = True

    def write(self, student: ExportedStudent, path: Path) -> None:
        prefix = '' if student.head is None and student.neck is None else BACKBONE
        weights = student.weights(prefix, index=False) | student.head_weights('head.fc.')
        if student.neck is not None:
            weights |= student.neck.state_dict(prefix=NECK)
        write_safetensors(weights, path, student)

    def open(self, student: ExportedStudent, path: Path) -> Outputs:
        opened, weights = ExportedStudent(student.config), read_tensors(path)
        report = fill(opened.encoder, weights, str(path))
        if report.missing:
            raise ValueError(f'{path} lacks {report.missing}')
        opened.head = classifier_in(weights, opened, str(path))
        if student.neck is not None:
            opened.neck = SpeakingStudent(str(path)).neck
        return opened

    def how_to_open(self, student: ExportedStudent, path: Path) -> str:
        code = f'  mvp_mm.get_model({str(path)!r})    # .zero_shot, .segment_by_text\n' * (
            student.neck is not None
        )
        return f'{code}  --cfg-options model.backbone.init_cfg.checkpoint={path}'
