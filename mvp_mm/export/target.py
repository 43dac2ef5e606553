"""The base class of export targets: a file format and the library that opens it."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..models.backbones.gelu import GELU
from ..models.speaking.speech import KEY as SPEECH
from ..weights.fit_positions import times
from ..weights.write import safetensors_bytes
from .student import ExportedStudent

# From a batch of images to some of the student's outputs, by the same names.
Outputs = Callable[[Tensor], dict[str, Tensor]]


class ExportTarget(ABC):
    """A format and the library that opens it.

    A new target writes a file, opens it as its users will, and returns outputs under the names of
    :meth:`ExportedStudent.forward`; :func:`export` compares them and reports.
    """

    library: ClassVar[str]  #: As messages name it.
    suffixes: ClassVar[tuple[str, ...]]  #: Of the file's name; empty for a folder.
    packages: ClassVar[tuple[str, ...]] = ()  #: Imports that only this target needs, of the extra ``export``.
    any_student: ClassVar[bool] = False  #: Whether it takes others than BEiT and ViT too.
    keeps_neck: ClassVar[bool] = False  #: Whether a student of MVP can speak in it.

    def require_packages(self) -> None:
        """Raise ``ImportError`` if a package that only this target needs is missing."""
        for name in self.packages:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise ImportError(
                    f'exporting to {self.library} needs {name}, which cannot be imported ({error}). Install: '
                    '`pip install "mvp_mm[export]"`, from a clone `pip install -e ".[export]"`'
                ) from error

    def check(self, student: ExportedStudent) -> None:
        """Raise ``ValueError`` with the reasons if the library cannot represent the student exactly."""
        lacking = [
            'its weights are not those of a BEiT or ViT by their names; safetensors and onnx take it, and '
            'timm a network of its own'
        ]
        if student.arch or self.any_student:
            lacking = self.lacks(student)
        if lacking:
            raise ValueError(f'{self.library} cannot hold this student: ' + '; '.join(lacking))

    def lacks(self, student: ExportedStudent) -> list[str]:
        """Return what of a student the library has no place for, in words."""
        return []

    def sizes(self, student: ExportedStudent) -> list[tuple[int, int]]:
        """Return the sizes (H, W) at which one written file is compared; more than one if it takes any."""
        return [student.img_size]

    @abstractmethod
    def write(self, student: ExportedStudent, path: Path) -> None:
        """Write the student to a path that does not exist yet."""

    @abstractmethod
    def open(self, student: ExportedStudent, path: Path) -> Outputs:
        """Open the file as the library's users do; ``student`` tells the arguments that they have to give."""

    @abstractmethod
    def how_to_open(self, student: ExportedStudent, path: Path) -> str:
        """Return the code that opens it, for the user."""


#: For libraries whose model always norms the mean.
FRESH_NORM = "  (its tokens are the student's; pooled features pass a fresh norm, as the student has none)"


def fresh_norm(student: ExportedStudent, name: str) -> dict[str, Tensor]:
    """Return the norm that such a library's model needs beside a student without pooled features."""
    width = student.encoder.embed_dims
    norm = {f'{name}.weight': torch.ones(width), f'{name}.bias': torch.zeros(width)}
    return {} if student.pooling else norm


def write_safetensors(weights: Mapping[str, Tensor], path: Path, student: ExportedStudent) -> None:
    """Write weights and the patch grid; unlike ``save_file``'s, the file is readable by others."""
    about = dict(format='pt', grid=times(student.grid))
    if student.neck is not None and student.speech is not None:
        about[SPEECH] = student.speech.as_json()
    path.write_bytes(safetensors_bytes(weights, about))


def unlike_beit(student: ExportedStudent, own: dict[str, Any], or_vit: bool = False) -> list[str]:
    """Return how a student differs from BEiT (or ViT), positions aside, and which of the ``own`` hold."""
    encoder, layers = student.encoder, student.encoder.layers
    norms = [norm for layer in layers for norm in (layer.ln1, layer.ln2)]
    norms += [getattr(encoder, name) for name in ('ln1', 'ln2') if hasattr(encoder, name)]
    activations = {type(layer.ffn.layers[0][1]) for layer in layers}
    names = ', '.join(sorted(activation.__name__ for activation in activations))
    usual_norms = all(type(norm) is nn.LayerNorm and norm.eps == student.eps for norm in norms)
    patches, bias = encoder.patch_embed, student.arch['bias']
    apart = patches.projection.kernel_size == patches.projection.stride and patches.norm is None
    two_norms = student.arch['final_norm'] and student.pooling == 'avg'
    kind = 'a bias on query, key and value' if bias else 'no bias'
    other_bias = bias != 'qv_bias' and not (or_vit and student.is_plain)
    reasons = {
        f"its attention has {kind}, and BEiT's one on query and value": other_bias,
        'it has no CLS token': not student.arch['with_cls_token'],
        "its norms are not all LayerNorm with one eps, as BEiT's": not usual_norms,
        f"its activation is {names}, and BEiT's is GELU": not activations <= {nn.GELU, GELU},
        'its patches overlap or are normalised': not apart,
        'it norms its tokens and their mean (ln1 and ln2), and BEiT one of both': two_norms,
        **own,
    }
    return [reason for reason, holds in reasons.items() if holds]
