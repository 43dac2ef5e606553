"""Mask R-CNN with ViTDet's pyramid and recipe on a ViT-B/16 of timm (DINOv3, or SAM's windowed one), COCO.

Command:  bash tools/dist_train.sh configs/detection/vitdet_timm_vitb16_coco.py 8 \
              --cfg-options model.backbone.init_cfg.checkpoint=FILE
          FILE: a checkpoint of a pre-training of the same network as it is, a weight file of timm, or
          timm:vit_base_patch16_dinov3.lvd1689m for the public weights.
          Windowed attention, as in ViTDet: model.backbone.model_name=samvit_base_patch16.sa1b
Cost:     184,375 steps of 64 images. Not measured; docs/detection.md says what the attention of each costs.
Expected: unknown: no paper trains this.
Measured: not trained by this project. Tests run both networks at debug size.
"""

_base_ = './vitdet_vitb16_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.TimmStudent',
        model_name='vit_base_patch16_dinov3.lvd1689m',
        img_size=1024,
        patch_size=16,
        out_type='featmap',  # of the last block, before the norm
        model_args=dict(drop_path_rate=0.1),  # ViTDet appendix A.2
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
)
