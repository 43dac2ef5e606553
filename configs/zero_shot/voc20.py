"""An MVP student segments Pascal VOC by the names of its 20 things, without a label.

Command:  python tools/test.py configs/zero_shot/voc20.py CHECKPOINT
          CHECKPOINT: of configs/mvp/vitb16_in1k.py or of its variants, which take
          --cfg-options model.target_generator.tokens=neighbour model.target_generator.clean_cls=False
Cost:     not measured.
Expected: the teacher (OpenAI ViT-B/16, published mIoU): last 41.8 (the paper's targets), value 74.9,
          csa 81.5, neighbour 79.7. No student is published.
Measured: not by this project, which has no such data.

Numbers of student, teacher and the gap; the names and protocol: docs/speaking.md.
Pixels of the background are ignored.
"""

_base_ = ['../mvp/vitb16_in1k.py', '../_base_/evaluators/voc20.py']

evaluators = [_base_.voc20]
test_dataloader = test_evaluator = test_cfg = None  # tested by the evaluators
