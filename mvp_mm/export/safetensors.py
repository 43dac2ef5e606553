"""safetensors under this package's own names: the student as it is, in a file that can hold no code."""

from pathlib import Path

from safetensors import torch as safetensors
from torch import Tensor

from ..weights.bias_tables import INDEX
from ..weights.fit_positions import times
from ..weights.load import load_pretrained
from .student import Student
from .target import ExportTarget, Outputs


class SafetensorsTarget(ExportTarget):
    """mmpretrain's names, which are MVPViT's; with a classifier the backbone lies under ``backbone.``.

    Shared table and mask token stay. Index buffers, which can be large, are left out: they follow from the
    patch grid, which is in the file's metadata.
    """

    library = 'MVPViT from safetensors'
    suffixes = ('.safetensors',)

    def lacks(self, student: Student) -> list[str]:
        return []

    def write(self, student: Student, path: Path) -> None:
        own = student.vit.state_dict()
        # Cloned, because a file refuses two names for one memory.
        state = {name: value.clone() for name, value in own.items() if not name.endswith(INDEX)}
        if student.head is not None:
            state = {f'backbone.{name}': value for name, value in state.items()}
            state |= {f'head.fc.{name}': value for name, value in student.head.state_dict().items()}
        # Not save_file, whose files only their owner may read.
        path.write_bytes(safetensors.save(state, metadata=dict(format='pt', grid=times(student.vit.window))))

    def open(self, student: Student, path: Path) -> Outputs:
        opened = Student(student.arguments, student.head)
        report = load_pretrained(opened.vit, str(path))
        if report.missing:
            raise ValueError(f'{path} lacks {report.missing}')
        if student.head is not None:
            weights: dict[str, Tensor] = safetensors.load_file(path)
            opened.head.load_state_dict({name: weights[f'head.fc.{name}'] for name in ('weight', 'bias')})
        return opened

    def how_to_open(self, student: Student, path: Path) -> str:
        return f'  --cfg-options model.backbone.init_cfg.checkpoint={path}'
