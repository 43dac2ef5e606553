"""UperNet on MaskFeat's ViT-B/16 under MVP's protocol.

Command:  bash tools/dist_train.sh configs/upernet/maskfeat_vitb16_ade20k_160k_512x512.py 8
Cost:     as vitb16_ade20k_160k_512x512.py.
Expected: no row of the paper: it reports MaskFeat on ImageNet-1K only (84.0 after 1600 epochs); mmpretrain's
          public checkpoint has 300.
Measured: not trained by this project; the checkpoint was not loaded here.
"""

_base_ = './mae_vitb16_ade20k_160k_512x512.py'  # the same plain ViT

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='https://mmassets.onedl.ai/mmselfsup/1.x/maskfeat/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k_20221101-6dfc8bf3.pth'
        )
    )
)
