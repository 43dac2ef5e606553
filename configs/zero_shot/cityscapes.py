"""An MVP student segments Cityscapes by the names of its 19 classes, without a label.

Command:  python tools/test.py configs/zero_shot/cityscapes.py CHECKPOINT
          CHECKPOINT: of configs/mvp/vitb16_in1k.py or of its variants, which take
          --cfg-options model.target_generator.tokens=neighbour model.target_generator.clean_cls=False
Cost:     not measured.
Expected: the teacher (OpenAI ViT-B/16, published mIoU): last 5.5 (the paper's targets), value 12.6,
          csa 32.3, neighbour 35.5. No student is published.
Measured: not by this project, which has no such data.

Numbers of student, teacher and the gap; the names and protocol: docs/speaking.md.
The short side is 560 pixels.
"""

_base_ = ['../mvp/vitb16_in1k.py', '../_base_/evaluators/cityscapes.py']

evaluators = [_base_.cityscapes]
test_dataloader = test_evaluator = test_cfg = None  # tested by the evaluators
