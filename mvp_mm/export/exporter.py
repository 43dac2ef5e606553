"""Export a student: refuse what does not fit, write, compare, and only then put the files in place."""

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger

from ..text.class_names import names_in
from ..weights.locate import local_path
from ..zoo import get_model
from .mmpretrain import MMPretrainTarget
from .mmseg import MMSegTarget
from .onnx import ONNXTarget
from .safetensors import SafetensorsTarget
from .student import ExportedStudent, every_other_patch, load_student
from .target import ExportTarget, Outputs
from .timm import MicrosoftTarget, TimmTarget
from .transformers import TransformersTarget

TOLERANCE = 1e-5  # float32 has 24 bits, 6e-8; a dozen blocks in another order of sums lose some of them
IMAGES = 2
TARGETS: dict[str, ExportTarget] = {
    'timm': TimmTarget(),
    'transformers': TransformersTarget(),
    'mmpretrain': MMPretrainTarget(),
    'mmseg': MMSegTarget(),
    'microsoft': MicrosoftTarget(),
    'safetensors': SafetensorsTarget(),
    'onnx': ONNXTarget(),
}


class ParityError(ValueError):
    """The other library computes something else; nothing was written."""


@dataclass
class ParityReport:
    """Differences between a library's outputs and the student's, on random images in float32.

    Args:
        library: Name of the library.
        rows: Image size (H, W), name of the output, largest absolute difference, largest absolute value.
        notes: What else the reader should know.
    """

    library: str
    rows: list[tuple[tuple[int, int], str, float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every difference is within the tolerance."""
        return all(_relative(difference, value) <= TOLERANCE for _, _, difference, value in self.rows)

    @property
    def largest(self) -> float:
        """The largest difference, relative to values above 1."""
        return max(_relative(difference, value) for _, _, difference, value in self.rows)

    def __str__(self) -> str:
        lines = [
            *self.notes,
            f'Parity of {self.library} with mvp_mm: float32, {IMAGES} random images, tolerance {TOLERANCE:g} '
            'of the largest value (of 1 where it is less)',
        ]
        for (height, width), name, difference, value in self.rows:
            verdict = 'ok' if _relative(difference, value) <= TOLERANCE else 'FAILED'
            figures = f'max |difference| {difference:.1e}  max |value| {value:.1e}'
            lines.append(f'  {height}x{width}  {name:<16}  {figures}  {verdict}')
        return '\n'.join(lines)

    @torch.no_grad()
    def compare(self, student: ExportedStudent, theirs: Outputs, size: tuple[int, int]) -> None:
        """Add rows: the student's outputs against a library's at one image size."""
        images = student.images(IMAGES, size)
        expected, found = student(images), theirs(images)
        if 'feature maps' in found:
            expected['feature maps'] = student.feature_maps(images)
        if 'masked tokens' in found:
            mask = every_other_patch(images, student.encoder.patch_size)
            expected['masked tokens'] = student(images, mask)['tokens']
        for name, value in found.items():
            ours = expected[name]
            if value.shape != ours.shape:
                raise ParityError(
                    f'{self.library} gives {name} of shape {tuple(value.shape)}, and mvp_mm '
                    f'{tuple(ours.shape)}: nothing was written'
                )
            # A NaN compares as false and so would fail by itself, but max() may lose it.
            difference = (value - ours).abs().max().item() if value.isfinite().all() else float('inf')
            self.rows.append((size, name, difference, ours.abs().max().item()))


def _relative(difference: float, value: float) -> float:
    return difference / max(1.0, value)


def export(
    target: str,
    checkpoint: str,
    out: str | Path,
    config: str | None = None,
    img_size: int | tuple[int, int] | None = None,
    prefix: str | None = None,
    prompts: str | None = None,
    teacher: str | None = None,
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
        prompts: Classes whose embeddings by the teacher's text tower to write beside a student of MVP, as
            ``<out's name>.classes.npz``; see :func:`.names_in`. Only to safetensors and ONNX.
        teacher: The teacher's weight file for ``prompts``, if it is no longer where it was.

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
    if prompts is not None and not exporter.keeps_neck:
        raise ValueError(
            f'--prompts goes with safetensors and onnx: {exporter.library} has no place for names'
        )
    classes = out.parent / f'{out.stem}.classes.npz'
    for path in (out,) if prompts is None else (out, classes):
        if path.exists():
            raise ValueError(f'there is already a {path}: remove it or name another place')
    exporter.require_packages()
    size = (img_size, img_size) if isinstance(img_size, int) else img_size
    with _quiet_libraries():
        student, notes = load_student(checkpoint, config, size, prefix)
        exporter.check(student)
        if student.neck is not None and not exporter.keeps_neck:
            student.neck = None
            notes.append('Left out, as only the backbone is exported: neck.')
        report = ParityReport(exporter.library, notes=notes)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.export-', dir=out.parent) as scratch:
            path = Path(scratch) / out.name
            exporter.write(student, path)
            opened, sizes = exporter.open(student, path), exporter.sizes(student)
            for one in sizes:
                report.compare(student, opened, one)
            if student.can_resize and len(sizes) == 1:
                # The library's file has resized positions; the student resizes its own as it goes.
                grid = [side * 3 // 4 if side > 3 else side + 1 for side in student.grid]
                resized = student.rebuilt(img_size=tuple(side * student.encoder.patch_size for side in grid))
                elsewhere = Path(scratch) / f'resized{out.suffix}'
                exporter.write(resized, elsewhere)
                report.compare(student, exporter.open(resized, elsewhere), resized.img_size)
            if not report.passed:
                failure = f'{exporter.library} computes something else: nothing was written'
                raise ParityError(f'{report}\n{failure}')
            if prompts is not None:
                model = get_model(str(local_path(checkpoint)), teacher=teacher or None)
                _write_classes(model, prompts, Path(scratch) / classes.name).rename(classes)
                report.notes.append(f'Written: {classes}, the embeddings of the classes.')
            path.rename(out)
    report.notes += [f'Written: {out}. To open it:', exporter.how_to_open(student, out)]
    return report


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Silence MMEngine's list of every parameter and the exporters' warnings of their own code."""
    loggers = [MMLogger.get_current_instance(), *map(logging.getLogger, ('torch.onnx', 'onnxscript'))]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), ExitStack() as levels:
        warnings.simplefilter('ignore')
        for logger in loggers:
            levels.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield


def _write_classes(model: Any, prompts: str, path: Path) -> Path:
    """Write unit vectors ``vectors`` (N, D), their classes ``owner`` (N,), ``names`` (K,), ``logit_scale``.

    Several of the N vectors may be names of one of the K classes, whose score is the largest of theirs.
    """
    tower = model.text_tower
    found = tower.class_embeddings(names_in(prompts))
    np.savez(
        path,
        vectors=found.vectors.numpy(),
        owner=found.owner.numpy(),
        names=np.array(found.names),
        logit_scale=np.float32(tower.logit_scale),
    )
    return path
