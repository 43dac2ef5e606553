"""UperNet on MAE's ViT-B/16 under MVP's protocol (paper Table 2: 48.1 mIoU).

Command:  bash tools/dist_train.sh configs/upernet/mae_vitb16_ade20k_160k_512x512.py 8
Cost:     as vitb16_ade20k_160k_512x512.py.
Expected: 48.1 mIoU in the paper, by MAE's own recipe (learning rate 1e-4); under this protocol unknown.
Measured: not trained by this project; the checkpoint was not loaded here.

The checkpoint is mmpretrain's of 1600 epochs, as in the paper's row. A plain ViT: absolute positions, bias on
query, key and value, no layer scale.
"""

_base_ = './vitb16_ade20k_160k_512x512.py'

model = dict(
    backbone=dict(
        bias=True,
        use_abs_pos_emb=True,
        use_rel_pos_bias=False,
        layer_scale_init_value=0,
        init_cfg=dict(
            checkpoint='https://mmassets.onedl.ai/mmselfsup/1.x/mae/mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k/mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k_20220825-f7569ca2.pth'
        ),
    )
)
