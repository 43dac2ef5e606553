"""ONNX, compared in onnxruntime; a student that speaks takes images of any size."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..weights.bias_tables import Grid, axis_weights
from .student import ExportedStudent
from .target import ExportTarget, Outputs

OPSET = 18
LONGEST = 64  # patches a side that a graph takes at most, if trained at no more: 1,024 pixels for 16 a patch


class ONNXTarget(ExportTarget):
    """A graph from ``images`` (B, 3, H, W), normalised, to ``tokens``, ``features`` and ``logits``.

    B is free, the size is not: ``img_size`` resizes positions before. The last two only if the student has
    them. The file's metadata hold the images' normalisation.

    A student of MVP also has ``cls_embedding`` (B, D) and ``patch_embeddings`` (B, h * w, D) in its teacher's
    joint space, not normalised. H and W then are free, too, if one shared table of biases holds its
    positions: multiples of ``patch_size``, ``max_patches`` of it at most, both in the metadata.
    """

    library = 'onnxruntime'
    suffixes = ('.onnx',)
    packages = ('onnx', 'onnxscript', 'onnxruntime')
    any_student = keeps_neck = True

    def sizes(self, student: ExportedStudent) -> list[tuple[int, int]]:
        if student.neck is None or why_one_size(student):
            return [student.img_size]
        (rows, cols), patch = student.grid, student.encoder.patch_size
        return [student.img_size, (rows * patch * 2, cols * patch), (patch, (cols + 1) * patch)]

    def write(self, student: ExportedStudent, path: Path) -> None:
        import onnx

        free, graph, size = {0: torch.export.Dim('batch')}, student, student.img_size
        about = dict(mean=json.dumps(student.mean), std=json.dumps(student.std), layout='RGB, NCHW')
        if len(self.sizes(student)) > 1:
            graph, patch, longest = any_size(student), student.encoder.patch_size, max(LONGEST, *student.grid)
            free |= {axis: patch * torch.export.Dim(f'side{axis}', max=longest) for axis in (2, 3)}
            about |= dict(patch_size=str(patch), max_patches=str(longest))
            size = (2 * patch, 3 * patch)
        with torch.no_grad():
            torch.onnx.export(
                graph,
                (student.images(2, size),),
                str(path),
                input_names=['images'],
                output_names=_names(student),
                dynamic_shapes=dict(images=free),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        model = onnx.load(path)
        onnx.checker.check_model(model)
        onnx.helper.set_model_props(model, about)
        onnx.save(model, path)

    def open(self, student: ExportedStudent, path: Path) -> Outputs:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        names = [output.name for output in session.get_outputs()]

        def outputs(images: Tensor) -> dict[str, Tensor]:
            # One image more than the graph was traced with, then cut off: the batch is free.
            found = session.run(names, {'images': torch.cat([images, images[:1]]).numpy()})
            return {name: torch.from_numpy(value)[:-1] for name, value in zip(names, found, strict=True)}

        return outputs

    def how_to_open(self, student: ExportedStudent, path: Path) -> str:
        shape, note = f'{student.img_size[0]}, {student.img_size[1]}', ''
        if len(self.sizes(student)) > 1:
            patch, most = student.encoder.patch_size, max(LONGEST, *student.grid)
            shape = 'H, W'
            note = f'; H and W are multiples of {patch} up to {most * patch}'
        elif student.neck is not None:
            note = f'; the student has one size, as {why_one_size(student)}'
        return (
            f"  onnxruntime.InferenceSession({str(path)!r}).run(None, {{'images': images}})"
            f'    # float32 (B, 3, {shape}), outputs {", ".join(_names(student))}{note}'
        )


def _names(student: ExportedStudent) -> list[str]:
    """Return the names of a student's outputs, in their order."""
    with torch.no_grad():
        return list(student(student.images(1, student.img_size)))


class AnyGridBias(nn.Module):
    """The bias of :func:`.relative_position_bias` for a grid that is known only when the graph runs.

    The spline that resizes a table is linear in it, so a graph can look its weights up: one matrix for each
    length of a side up to ``longest``.
    """

    rows: Tensor
    cols: Tensor
    body: Tensor
    of_cls: Tensor

    def __init__(self, table: Tensor, window: Grid, longest: int) -> None:
        super().__init__()
        self.longest = longest
        for name, source in zip(('rows', 'cols'), window, strict=True):
            weights = torch.zeros(longest + 1, 2 * longest - 1, 2 * source - 1)
            for target in range(1, longest + 1):
                # offset 0 in the middle, so that it lies at one place for every grid
                weights[target, longest - target : longest + target - 1] = axis_weights(source, target)
            self.register_buffer(name, weights)
        self.register_buffer('body', table[:-3].view(2 * window[0] - 1, 2 * window[1] - 1, -1))
        self.register_buffer('of_cls', table[-3:].t()[..., None, None])

    def forward(self, grid: Any) -> Tensor:
        """Return the bias ``(num_heads, L, L)`` of a grid ``(h, w)``, CLS first."""
        body = torch.einsum('ij,kl,jlh->hik', self.rows[grid[0]], self.cols[grid[1]], self.body)
        down, right = (torch.arange(side) for side in grid)
        rows, cols = (at[:, None] - at + self.longest - 1 for at in (down, right))
        bias = body[:, rows[:, None, :, None], cols[None, :, None, :]].flatten(3, 4).flatten(1, 2)
        patches = bias.shape[-1]
        above, beside, corner = self.of_cls.unbind(1)
        above, beside = above.expand(-1, 1, patches), beside.expand(-1, patches, 1)
        return torch.cat([torch.cat([corner, above], 2), torch.cat([beside, bias], 2)], 1)


def why_one_size(student: ExportedStudent) -> str | None:
    """Say why a student's graph cannot take images of any size; None if it can."""
    encoder = student.encoder
    if not student.can_resize:
        return 'its encoder is made for one'
    if encoder.pos_embed is not None:
        return 'it has absolute positions'
    if encoder.rel_pos_bias is None and any(layer.attn.window for layer in encoder.layers):
        return 'it has a bias table for each block'
    return None


def any_size(student: ExportedStudent) -> ExportedStudent:
    """Return a copy of a student that can be traced at every size of whole patches up to :data:`LONGEST`."""
    copied = copy.deepcopy(student)
    encoder, shared = copied.encoder, copied.encoder.rel_pos_bias
    encoder.patch_embed.adaptive_padding = None  # which asks for numbers
    if shared is not None:
        table = shared.relative_position_bias_table.detach()
        encoder.rel_pos_bias = AnyGridBias(table, encoder.window, max(LONGEST, *encoder.window))
    return copied
