"""ONNX, compared in onnxruntime."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from .student import Student
from .target import ExportTarget, Outputs, pools

OPSET = 18


class ONNXTarget(ExportTarget):
    """A graph from ``images`` (B, 3, H, W), normalised, to ``tokens``, ``features`` and ``logits``.

    B is free, the size is not: bias tables are resized before, by ``img_size``. Without features and logits
    where the student has none. How images are normalised is in the file's metadata.
    """

    library = 'onnxruntime'
    suffixes = ('.onnx',)
    packages = ('onnx', 'onnxscript', 'onnxruntime')

    def lacks(self, student: Student) -> list[str]:
        return []

    def write(self, student: Student, path: Path) -> None:
        import onnx

        channels = student.vit.patch_embed.projection.in_channels
        names = _names(student)
        images = torch.zeros(2, channels, *student.img_size)
        with torch.no_grad():
            torch.onnx.export(
                _Graph(student, names).eval(),
                (images,),
                str(path),
                input_names=['images'],
                output_names=names,
                dynamic_shapes=dict(images={0: torch.export.Dim('batch')}),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        model = onnx.load(path)
        onnx.checker.check_model(model)
        facts = dict(mean=json.dumps(student.mean), std=json.dumps(student.std), layout='RGB, NCHW')
        onnx.helper.set_model_props(model, facts)
        onnx.save(model, path)

    def open(self, student: Student, path: Path) -> Outputs:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        names = [output.name for output in session.get_outputs()]

        def outputs(images: Tensor) -> dict[str, Tensor]:
            # One image more than the graph was traced with, then cut off: the batch is free.
            batch = torch.cat([images, images[:1]]).numpy()
            found = session.run(names, {'images': batch})
            return {name: torch.from_numpy(value)[:-1] for name, value in zip(names, found, strict=True)}

        return outputs

    def how_to_open(self, student: Student, path: Path) -> str:
        height, width = student.img_size
        return (
            f"  onnxruntime.InferenceSession({str(path)!r}).run(None, {{'images': images}})"
            f'    # float32 (B, 3, {height}, {width}), outputs {", ".join(_names(student))}'
        )


def _names(student: Student) -> list[str]:
    return ['tokens'] + ['features'] * pools(student) + ['logits'] * (student.head is not None)


class _Graph(nn.Module):
    def __init__(self, student: Student, names: list[str]) -> None:
        super().__init__()
        self.student = student
        self.names = names

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outs = self.student(images)
        return tuple(outs[name] for name in self.names)
