"""The student of the embedded scenes names shapes and colours, and segments, without a label.

Command:  python tools/test.py configs/zero_shot/scenes.py CHECKPOINT
          CHECKPOINT: configs/mvp/vittiny_scenes.safetensors, or of configs/mvp/vittiny_scenes.py
Cost:     75 s of one thread of an Intel Xeon with AMX.
Expected: accuracies above chance, 12.5 %, and below the teacher's.
Measured: student / teacher: shape 24.8 / 51.2 %, colour 83.1 / 94.1 %, segmentation 4.8 / 9.7 mIoU,
          18.0 / 25.2 % of the pixels (the shipped student, torch 2.14.1, 2026-11-26).

Two zero-shot classifications and a segmentation, each with the teacher and the gap; docs/speaking.md.
"""

_base_ = ['../mvp/vittiny_scenes.py', '../_base_/evaluators/scenes.py']

custom_imports = dict(imports=['mvp_mm', 'mvp_mm.datasets.segmentation'], allow_failed_imports=False)
evaluators = [_base_.scenes_shape, _base_.scenes_colour, _base_.scenes]
test_dataloader = test_evaluator = test_cfg = None  # tested by the evaluators
