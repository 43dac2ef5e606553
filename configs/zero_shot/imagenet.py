"""An MVP student classifies ImageNet-1K by the names of its classes, without a label.

Command:  python tools/test.py configs/zero_shot/imagenet.py CHECKPOINT
          CHECKPOINT: of configs/mvp/vitb16_in1k.py or of its variants, which take
          --cfg-options model.target_generator.tokens=neighbour model.target_generator.clean_cls=False
Cost:     not measured.
Expected: the teacher (OpenAI ViT-B/16) top-1 68.6 (CLIP, Table 11). No student is published.
Measured: not by this project, which has no such data.

Numbers of student, teacher and the gap; the names and protocol: docs/speaking.md.
"""

_base_ = ['../mvp/vitb16_in1k.py', '../_base_/evaluators/imagenet.py']

evaluators = [_base_.imagenet]
test_dataloader = test_evaluator = test_cfg = None  # tested by the evaluators
