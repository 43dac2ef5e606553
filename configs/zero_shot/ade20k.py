"""An MVP student segments ADE20K by the names of its 150 classes, without a label.

Command:  python tools/test.py configs/zero_shot/ade20k.py CHECKPOINT
          CHECKPOINT: of configs/mvp/vitb16_in1k.py or of its variants, which take
          --cfg-options model.target_generator.tokens=neighbour model.target_generator.clean_cls=False
Cost:     not measured.
Expected: the teacher (OpenAI ViT-B/16, published mIoU): last 2.1 (the paper's targets), value 9.8,
          csa 16.5, neighbour 17.4. No student is published.
Measured: not by this project, which has no such data.

Numbers of student, teacher and the gap; the names and protocol: docs/speaking.md.
"""

_base_ = ['../mvp/vitb16_in1k.py', '../_base_/evaluators/ade20k.py']

evaluators = [_base_.ade20k]
test_dataloader = test_evaluator = test_cfg = None  # tested by the evaluators
