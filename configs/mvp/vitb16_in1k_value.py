"""MVP whose patch targets match text: MaskCLIP's tokens, 300 epochs of ImageNet-1K.

Command:  bash tools/dist_train.sh configs/mvp/vitb16_in1k_value.py 8
Cost:     as configs/mvp/vitb16_in1k.py.
Expected: no student of these targets is published. The teacher by names: 26.4 mIoU on
          Context59, 9.8 on ADE20K (MaskCLIP, re-run by ClearCLIP); by the paper's tokens 9.2 and 2.1.
Measured: not trained by this project at this size; in miniature: docs/speaking.md.

In the teacher the last block's attention output is its values, projected (MaskCLIP).
CLS keeps the paper's target, the image embedding.
"""

_base_ = './vitb16_in1k.py'

model = dict(target_generator=dict(tokens='value', clean_cls=False))
