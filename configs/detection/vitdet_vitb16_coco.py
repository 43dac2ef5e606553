"""Mask R-CNN with ViTDet's pyramid and recipe on MVP's ViT-B/16, COCO, 100 epochs at 1024x1024.

Command:  pip install "mvp_mm[detection]"    (docs/detection.md)
          bash tools/dist_train.sh configs/detection/vitdet_vitb16_coco.py 8 \
              --cfg-options model.backbone.init_cfg.checkpoint=FILE_OR_URL
          bash tools/dist_test.sh configs/detection/vitdet_vitb16_coco.py CHECKPOINT 8
          The data: data/coco/{train2017,val2017,annotations}
Cost:     184,375 steps of 64 images. ViTDet's own, with windowed attention: 0.31 s an image and 10.9 GB on an A100
          (detectron2's table); all blocks attend globally here, which is 1.37 times its backbone's multiply-adds.
Expected: unknown. ViTDet has 51.6 box AP and 45.9 mask AP with MAE's weights, and windowed attention (its code).
Measured: not trained by this project. Two steps and the evaluation of a small one in the tests.

FILE is a pre-training checkpoint as it is.
"""

_base_ = [
    '../_base_/models/vitdet_vitb16.py',
    '../_base_/datasets/coco_lsj_1024.py',
    '../_base_/schedules/vitdet_adamw_100e.py',
    '../_base_/detection_runtime.py',
]
