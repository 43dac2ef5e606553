"""UperNet on MVP's ViT-B/16, ADE20K, 160K steps at 512x512 (paper Table 2).

Command:  bash tools/dist_train.sh configs/upernet/vitb16_ade20k_160k_512x512.py 8 \
              --cfg-options model.backbone.init_cfg.checkpoint=FILE_OR_URL
          bash tools/dist_test.sh configs/upernet/vitb16_ade20k_160k_512x512.py CHECKPOINT 8 [--tta]
Cost:     160,000 steps of 16 images: 18 hours on one H200, predicted from its step (docs/performance.md).
Expected: 52.4 mIoU after 300 epochs of MVP, 52.0 after 100, 47.0 with DINO as the teacher (paper, ViT-B/16).
Measured: not trained by this project. The same code trains on CamVid: configs/upernet/vittiny_camvid.py.

FILE is a pre-training checkpoint as it is. SyncBN averages over GPUs x images, not over accumulated steps.
"""

_base_ = [
    '../_base_/models/upernet_vitb16.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/upernet_adamw_160k.py',
    '../_base_/segmentation_runtime.py',
]
