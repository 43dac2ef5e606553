"""UperNet on a ViT-S/16 of timm (DINOv3), ADE20K, 160K steps at 512x512.

Command:  bash tools/dist_train.sh configs/upernet/timm_vits16_ade20k_160k_512x512.py 8 \
              --cfg-options model.backbone.init_cfg.checkpoint=FILE
          FILE: a checkpoint of configs/mvp/timm_vits16_dinov3.py as it is, a weight file of timm, or
          timm:vit_small_patch16_dinov3.lvd1689m for the public weights
Cost:     160,000 steps of 16 images. GPU-hours: not measured.
Expected: unknown: no paper trains this.
Measured: not trained by this project. Tests run it at debug size.
"""

_base_ = './vitb16_ade20k_160k_512x512.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.TimmStudent',
        model_name='vit_small_patch16_dinov3.lvd1689m',
        img_size=512,
        patch_size=16,
        out_type='featmap',
        out_indices=(3, 5, 7, 11),  # as of MVP's ViT-B/16
        model_args=dict(drop_path_rate=0.1),
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384),
)
