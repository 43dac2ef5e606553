"""An MVP student segments Pascal VOC with its background by names, without a label.

Command:  python tools/test.py configs/zero_shot/voc21.py CHECKPOINT
          CHECKPOINT: of configs/mvp/vitb16_in1k.py or of its variants, which take
          --cfg-options model.target_generator.tokens=neighbour model.target_generator.clean_cls=False
Cost:     not measured.
Expected: not known: SCLIP tunes the scale of the softmax and drops small segments for this set.
Measured: not by this project, which has no such data.

Numbers of student, teacher and the gap; the names and protocol: docs/speaking.md.
Pixels whose largest probability is below 0.1 are background, and so are those named sky, wall, ...
"""

_base_ = ['../mvp/vitb16_in1k.py', '../_base_/evaluators/voc21.py']

evaluators = [_base_.voc21]
test_dataloader = test_evaluator = test_cfg = None  # tested by the evaluators
