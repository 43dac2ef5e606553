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
        rows: Image size (H, W), name of the output, largest absolute difference, largest absolute value of
            the student's.
        notes: What else the reader should know.
    """

    library: str
    rows: list[tuple[tuple[int, int], str, float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @staticmethod
    def allowed(largest: float) -> float:
        """Return the largest difference that passes: the tolerance times the largest value, at least 1."""
        return TOLERANCE * max(1.0, largest)

    @property
    def passed(self) -> bool:
        """Whether every difference is allowed."""
        return all(difference <= self.allowed(largest) for _, _, difference, largest in self.rows)

    @property
    def largest(self) -> float:
        """The largest difference, relative to values above 1: below :data:`TOLERANCE` it passes."""
        return max(difference / max(1.0, largest) for _, _, difference, largest in self.rows)

    def __str__(self) -> str:
        lines = [
            *self.notes,
            f'Parity of {self.library} with mvp_mm: float32, {IMAGES} random images, tolerance {TOLERANCE:g} '
            'of the largest value (of 1 where it is less)',
        ]
        for (height, width), name, difference, largest in self.rows:
            verdict = 'ok' if difference <= self.allowed(largest) else 'FAILED'
            lines.append(
                f'  {height}x{width}  {name:<13}  max |difference| {difference:.1e}  '
                f'max |value| {largest:.1e}  {verdict}'
            )
        return '\n'.join(lines)

    @torch.no_grad()
    def compare(self, student: ExportedStudent, theirs: Outputs, size: tuple[int, int]) -> None:
        """Add rows: the student's outputs against a library's at one image size."""
        images = student.images(IMAGES, size)
        expected, found = student(images) | student.masked(images), theirs(images)
        if 'feature maps' in found:
            expected['feature maps'] = student.feature_maps(images)
        for name, value in found.items():
            if value.shape != expected[name].shape:
                raise ParityError(
                    f'{self.library} gives {name} of shape {tuple(value.shape)}, and mvp_mm '
                    f'{tuple(expected[name].shape)}: nothing was written'
                )
            difference = (value - expected[name]).abs().max().item()
            # A NaN compares as false and so would fail by itself, but max() may lose it.
            difference = difference if value.isfinite().all() else float('inf')
            self.rows.append((size, name, difference, expected[name].abs().max().item()))
