"""Compare what another library computes with what the student computes."""

from dataclasses import dataclass, field

import torch

from .student import ExportedStudent
from .target import Outputs

TOLERANCE = 1e-5  # float32 has 24 bits, 6e-8; a dozen blocks in another order of sums lose some of them
IMAGES = 2


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
            lines.append(f'  {height}x{width}  {name:<13}  {figures}  {verdict}')
        return '\n'.join(lines)

    @torch.no_grad()
    def compare(self, student: ExportedStudent, theirs: Outputs, size: tuple[int, int]) -> None:
        """Add rows: the student's outputs against a library's at one image size."""
        images = student.images(IMAGES, size)
        expected, found = student(images) | student.masked(images), theirs(images)
        if 'feature maps' in found:
            expected['feature maps'] = student.feature_maps(images)
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
