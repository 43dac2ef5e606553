"""MVP whose patch targets match text: key-key tokens, 300 epochs of ImageNet-1K.

Command:  bash tools/dist_train.sh configs/mvp/vitb16_in1k_kk.py 8
Cost:     as configs/mvp/vitb16_in1k.py.
Expected: no student of these targets is published. Nor are figures of such a teacher with ViT-B/16.
Measured: not trained by this project at this size; in miniature: docs/speaking.md.

In the teacher the last block attends from keys to keys, without residual and MLP (NACLIP without its Gaussian).
CLS keeps the paper's target, the image embedding.
"""

_base_ = './vitb16_in1k.py'

model = dict(target_generator=dict(tokens='kk', clean_cls=False))
