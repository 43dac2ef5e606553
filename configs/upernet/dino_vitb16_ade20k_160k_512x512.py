"""UperNet on DINO's ViT-B/16 under MVP's protocol (paper Table 2: 44.1 mIoU).

Command:  bash tools/dist_train.sh configs/upernet/dino_vitb16_ade20k_160k_512x512.py 8
Cost:     as vitb16_ade20k_160k_512x512.py.
Expected: 44.1 mIoU in the paper, whose recipe for DINO is not stated; under this protocol unknown.
Measured: not trained by this project; the checkpoint was not loaded here.

The checkpoint is the one of DINO's authors.
"""

_base_ = './mae_vitb16_ade20k_160k_512x512.py'  # the same plain ViT

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth'
        )
    )
)
