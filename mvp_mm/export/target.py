"""What every library that weights are exported to has to say: the base class of the targets."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from ..models.backbones.gelu import GELU
from .student import Student

# From a batch of images to some of the outputs of `Student.forward` and `masked`, by the same names.
Outputs = Callable[[Tensor], dict[str, Tensor]]


class ExportTarget(ABC):
    """A format and the library that opens it.

    A new target writes a file, opens it as its users will, and returns outputs under the names of
    :meth:`Student.forward`; comparing and reporting are not its business.
    """

    #: Of the library, as messages name it.
    library: ClassVar[str]
    #: How the file's name may end; none for a folder.
    suffixes: ClassVar[tuple[str, ...]]
    #: Import names that only this target needs; the extra ``export`` brings them.
    packages: ClassVar[tuple[str, ...]] = ()

    def require_packages(self) -> None:
        """Check that the packages that only this target needs are there.

        Raises:
            ImportError: If one is not; says how to install it.
        """
        for name in self.packages:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise ImportError(
                    f'exporting to {self.library} needs {name}, which cannot be imported ({error}). '
                    'Install the extra `export`: `pip install "mvp_mm[export]"`, from a clone '
                    '`pip install -e ".[export]"`'
                ) from error

    def check(self, student: Student) -> None:
        """Refuse a student that the library cannot represent exactly.

        Raises:
            ValueError: Says what the library lacks.
        """
        lacking = self.lacks(student)
        if lacking:
            raise ValueError(f'{self.library} cannot hold this student: ' + '; '.join(lacking))

    @abstractmethod
    def lacks(self, student: Student) -> list[str]:
        """What of a student the library has no place for, in words; nothing if it fits."""

    @abstractmethod
    def write(self, student: Student, path: Path) -> None:
        """Write the student to a path that does not exist yet."""

    @abstractmethod
    def open(self, student: Student, path: Path) -> Outputs:
        """Open what was written as the library's users do.

        Args:
            student: What was written, for the arguments that a user has to give.
            path: Where it lies.
        """

    @abstractmethod
    def how_to_open(self, student: Student, path: Path) -> str:
        """The code that opens it, for the user."""


def pools(student: Student) -> bool:
    """Whether a student has pooled features: by a norm of the mean, or by CLS after the final norm."""
    return student.has_mean_norm or (student.vit.final_norm and student.vit.cls_token is not None)


#: For libraries whose model always norms the mean.
FRESH_NORM = "  (its tokens are the student's; pooled features pass a fresh norm, as the student has none)"


def unlike_beit(student: Student) -> list[str]:
    """In what a student differs from BEiT's architecture, in words; nothing if it does not.

    Positions, absolute or relative, are each library's own business.
    """
    vit = student.vit
    differences = []
    if vit.cls_token is None:
        differences.append('it has no CLS token')
    first = vit.layers[0]
    if not all(layer.attn.has_qv_bias for layer in vit.layers):
        kind = 'a bias on query, key and value' if first.attn.qkv.bias is not None else 'no bias'
        differences.append(f"its attention has {kind}, and BEiT's one on query and value")
    norms = [norm for layer in vit.layers for norm in (layer.ln1, layer.ln2)]
    norms += [getattr(vit, name) for name in ('ln1', 'ln2') if hasattr(vit, name)]
    if any(type(norm) is not nn.LayerNorm or norm.eps != student.eps for norm in norms):
        differences.append("its norms are not all LayerNorm with one eps, as BEiT's")
    activations = {type(layer.ffn.layers[0][1]) for layer in vit.layers}
    if not activations <= {nn.GELU, GELU}:
        names = ', '.join(sorted(activation.__name__ for activation in activations))
        differences.append(f"its activation is {names}, and BEiT's is GELU")
    projection = vit.patch_embed.projection
    if projection.kernel_size != projection.stride or vit.patch_embed.norm is not None:
        differences.append('its patches overlap or are normalised')
    if vit.final_norm and student.has_mean_norm:
        differences.append('it norms its tokens and their mean (ln1 and ln2), and BEiT one of both')
    return differences
