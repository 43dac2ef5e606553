"""ONNX, compared in onnxruntime."""

import json
from pathlib import Path

import torch
from torch import Tensor

from .any_size import LONGEST, any_size, why_one_size
from .student import ExportedStudent
from .target import ExportTarget, Outputs

OPSET = 18


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
