"""Export a student: refuse what does not fit, write, compare, and only then put the file in place."""

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from mmengine.logging import MMLogger

from .mmpretrain import MMPretrainTarget
from .mmseg import MMSegTarget
from .onnx import ONNXTarget
from .parity import ParityError, ParityReport
from .safetensors import SafetensorsTarget
from .student import ExportedStudent, load_student
from .target import ExportTarget
from .timm import MicrosoftTarget, TimmTarget
from .transformers import TransformersTarget

TARGETS: dict[str, ExportTarget] = {
    'timm': TimmTarget(),
    'transformers': TransformersTarget(),
    'mmpretrain': MMPretrainTarget(),
    'mmseg': MMSegTarget(),
    'microsoft': MicrosoftTarget(),
    'safetensors': SafetensorsTarget(),
    'onnx': ONNXTarget(),
}


def export(
    target: str,
    checkpoint: str,
    out: str | Path,
    config: str | None = None,
    img_size: int | tuple[int, int] | None = None,
    prefix: str | None = None,
) -> ParityReport:
    """Write a student for another library, if that library then computes the same.

    The written file is opened as the library's users open it and compared at the exported size; a second
    file, which is not kept, is compared at another size. If anything is raised, nothing is left at ``out``.

    Args:
        target: One of :data:`TARGETS`.
        checkpoint: Any BEiT-family weight file.
        out: File or, for transformers, folder; must not exist.
        config: The config whose ``model.backbone`` it fills. Default None: the weights tell the architecture.
        img_size: Size in pixels for which positions are resized, int or ``(H, W)``. Default None: their own.
        prefix: Which of several transformers in the file is wanted; see :func:`mvp_mm.weights.load`.

    Returns:
        The report, whose text ends with the comparison.

    Raises:
        FileNotFoundError: If there is no such checkpoint or config.
        ImportError: If the target needs a package that is not installed.
        ParityError: If the outputs differ.
        ValueError: If the target is unknown, ``out`` does not fit, or the library cannot hold the student.
    """
    if target not in TARGETS:
        raise ValueError(f'there is no export to {target!r}; there is: {", ".join(TARGETS)}')
    exporter, out = TARGETS[target], Path(out).expanduser()
    if out.suffix not in exporter.suffixes and exporter.suffixes:
        raise ValueError(f'{out} should end with {" or ".join(exporter.suffixes)}')
    if out.exists():
        raise ValueError(f'there is already a {out}: remove it or name another place')
    exporter.require_packages()
    size = (img_size, img_size) if isinstance(img_size, int) else img_size
    with _quiet_libraries():
        student, notes = load_student(checkpoint, config, size, prefix)
        exporter.check(student)
        report = ParityReport(exporter.library, notes=notes)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.export-', dir=out.parent) as scratch:
            path = Path(scratch) / out.name
            exporter.write(student, path)
            report.compare(student, exporter.open(student, path), student.img_size)
            if student.can_resize:
                # The library's file has resized positions; the student resizes its own as it goes.
                resized, elsewhere = _resized(student), Path(scratch) / f'resized{out.suffix}'
                exporter.write(resized, elsewhere)
                report.compare(student, exporter.open(resized, elsewhere), resized.img_size)
            if not report.passed:
                raise ParityError(
                    f'{report}\n{exporter.library} computes something else: nothing was written'
                )
            path.rename(out)
    report.notes += [f'Written: {out}. To open it:', exporter.how_to_open(student, out)]
    return report


def _resized(student: ExportedStudent) -> ExportedStudent:
    """Return a student of about three quarters of the size, to compare away from the training size."""
    sides = (side * 3 // 4 if side > 3 else side + 1 for side in student.grid)
    return student.rebuilt(img_size=tuple(side * student.encoder.patch_size for side in sides))


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Silence MMEngine's list of every parameter and the exporters' warnings of their own code."""
    loggers = [MMLogger.get_current_instance(), *map(logging.getLogger, ('torch.onnx', 'onnxscript'))]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
