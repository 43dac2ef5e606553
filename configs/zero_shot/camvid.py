"""An MVP student segments CamVid by the names of its 11 classes, without a label.

Command:  python tools/test.py configs/zero_shot/camvid.py CHECKPOINT
          CHECKPOINT: of configs/mvp/vitb16_in1k.py or of its variants, which take
          --cfg-options model.target_generator.tokens=neighbour model.target_generator.clean_cls=False
Cost:     not measured.
Expected: no figure is published.
Measured: not trained by this project at this size; tests run it with a random student.

Numbers of student, teacher and the gap; the names and protocol: docs/speaking.md.
"""

_base_ = ['../mvp/vitb16_in1k.py', '../_base_/evaluators/camvid.py']

custom_imports = dict(imports=['mvp_mm', 'mvp_mm.datasets.segmentation'], allow_failed_imports=False)
evaluators = [_base_.camvid]
test_dataloader = test_evaluator = test_cfg = None  # tested by the evaluators
