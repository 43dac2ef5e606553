"""MVP, ViT-B/16, 300 epochs of ImageNet-1K: the paper's main model (Tables 1 and 2, §4.2).

Command:  bash tools/dist_train.sh configs/mvp/vitb16_in1k.py 8
          python tools/train.py configs/mvp/vitb16_in1k.py      (one GPU; 8 accumulated iterations)
Cost:     187,500 steps of 2048 images: 40 hours on one H200, predicted from its step (docs/performance.md).
Expected: after fine-tuning, ImageNet-1K top-1 84.4, linear probe 75.4, ADE20K mIoU 52.4 (paper).
Measured: not trained by this project. With a random teacher a step runs on an H200 (2,643 images/s) and a CPU.
"""

_base_ = [
    '../_base_/models/mvp_vitb16.py',
    '../_base_/datasets/imagenet_mvp.py',
    '../_base_/schedules/mvp_adamw_300e.py',
    '../_base_/default_runtime.py',
]
