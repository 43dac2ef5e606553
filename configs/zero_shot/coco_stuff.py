"""An MVP student segments COCO-Stuff 164k by the names of its 171 classes, without a label.

Command:  python tools/test.py configs/zero_shot/coco_stuff.py CHECKPOINT
          CHECKPOINT: of configs/mvp/vitb16_in1k.py or of its variants, which take
          --cfg-options model.target_generator.tokens=neighbour model.target_generator.clean_cls=False
Cost:     not measured.
Expected: the teacher (OpenAI ViT-B/16, published mIoU): last 4.4 (the paper's targets), value 16.4,
          csa 22.8, neighbour 23.3. No student is published.
Measured: not by this project, which has no such data.

Numbers of student, teacher and the gap; the names and protocol: docs/speaking.md.
"""

_base_ = ['../mvp/vitb16_in1k.py', '../_base_/evaluators/coco_stuff.py']

evaluators = [_base_.coco_stuff]
test_dataloader = test_evaluator = test_cfg = None  # tested by the evaluators
