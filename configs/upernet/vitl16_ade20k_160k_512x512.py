"""UperNet on MVP's ViT-L/16, ADE20K, 160K steps at 512x512 (paper Table 3).

Command:  bash tools/dist_train.sh configs/upernet/vitl16_ade20k_160k_512x512.py 8 \
              --cfg-options model.backbone.init_cfg.checkpoint=FILE_OR_URL
Cost:     160,000 steps of 16 images. GPU-hours: not measured by this project.
Expected: 54.3 mIoU (paper).
Measured: not trained by this project.
"""

_base_ = './vitb16_ade20k_160k_512x512.py'

model = dict(
    backbone=dict(
        arch='large',
        out_indices=(7, 11, 15, 23),  # BEiT recipe, large
        layer_scale_init_value=1e-5,  # as in pre-training
        drop_path_rate=0.2,  # BEiT recipe, large
    ),
    neck=dict(embed_dim=1024),
    decode_head=dict(in_channels=[1024, 1024, 1024, 1024], channels=1024),  # BEiT recipe, large
    auxiliary_head=dict(in_channels=1024),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-5),  # paper §4.1, ViT-L
    paramwise_cfg=dict(layer_decay_rate=0.95),  # BEiT's large config (inferred)
)
