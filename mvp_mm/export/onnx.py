"""ONNX, compared in onnxruntime."""

import json
from pathlib import Path

import torch
from torch import Tensor

from .student import ExportedStudent
from .target import ExportTarget, Outputs

OPSET = 18


class ONNXTarget(ExportTarget):
    """A graph from ``images`` (B, 3, H, W), normalised, to ``tokens``, ``features`` and ``logits``.

    B is free, the size is not: ``img_size`` resizes positions before. The last two only if the student has
    them. The file's metadata hold the images' normalisation.
    """

    library = 'onnxruntime'
    suffixes = ('.onnx',)
    packages = ('onnx', 'onnxscript', 'onnxruntime')
    any_student = True

    def write(self, student: ExportedStudent, path: Path) -> None:
        import onnx

        with torch.no_grad():
            torch.onnx.export(
                student,
                (student.images(2, student.img_size),),
                str(path),
                input_names=['images'],
                output_names=_names(student),
                dynamic_shapes=dict(images={0: torch.export.Dim('batch')}),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        model = onnx.load(path)
        onnx.checker.check_model(model)
        mean, std = json.dumps(student.mean), json.dumps(student.std)
        onnx.helper.set_model_props(model, dict(mean=mean, std=std, layout='RGB, NCHW'))
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
        height, width = student.img_size
        return (
            f"  onnxruntime.InferenceSession({str(path)!r}).run(None, {{'images': images}})"
            f'    # float32 (B, 3, {height}, {width}), outputs {", ".join(_names(student))}'
        )


def _names(student: ExportedStudent) -> list[str]:
    """Return the names of a student's outputs, in their order."""
    return ['tokens'] + ['features'] * bool(student.pooling) + ['logits'] * (student.head is not None)
