"""UperNet on BEiT's ViT-B/16 under MVP's protocol (for comparison with paper Table 2).

Command:  bash tools/dist_train.sh configs/upernet/beit_vitb16_ade20k_160k_512x512.py 8
Cost:     as vitb16_ade20k_160k_512x512.py.
Expected: no row of the paper: its 45.6 mIoU is after 800 epochs of pre-training, mmpretrain's public
          checkpoint has 300.
Measured: not trained by this project; the checkpoint was not loaded here.

Differs from MVP's config in the checkpoint only. BEiT's own recipe for a self-supervised ViT-B has the
same layer decay (0.65) and a learning rate of its own.
"""

_base_ = './vitb16_ade20k_160k_512x512.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='https://mmassets.onedl.ai/mmselfsup/1.x/beit/beit_vit-base-p16_8xb256-amp-coslr-300e_in1k/beit_vit-base-p16_8xb256-amp-coslr-300e_in1k_20221128-ab79e626.pth'
        )
    )
)
