"""UperNet on CAE's ViT-B/16 under MVP's protocol (for comparison with paper Table 2).

Command:  bash tools/dist_train.sh configs/upernet/cae_vitb16_ade20k_160k_512x512.py 8
Cost:     as vitb16_ade20k_160k_512x512.py.
Expected: no row of the paper: its 48.8 mIoU is after 800 epochs of pre-training, mmpretrain's public
          checkpoint has 300.
Measured: not trained by this project; the checkpoint was not loaded here.

CAE's encoder is pre-trained with absolute positions and no relative bias, and so it is here.
"""

_base_ = './vitb16_ade20k_160k_512x512.py'

model = dict(
    backbone=dict(
        use_abs_pos_emb=True,
        use_rel_pos_bias=False,
        init_cfg=dict(
            checkpoint='https://mmassets.onedl.ai/mmselfsup/1.x/cae/cae_vit-base-p16_8xb256-amp-coslr-300e_in1k/cae_vit-base-p16_8xb256-amp-coslr-300e_in1k_20221230-808170f3.pth'
        ),
    )
)
