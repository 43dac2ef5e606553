"""Fine-tune ViT-L/16 on ImageNet-1K, end to end, 50 epochs (paper §4.1, Table 1; BEiT's recipe).

Command:  bash tools/dist_train.sh configs/finetune/vitl16_in1k.py 8 \
              --cfg-options model.backbone.init_cfg.checkpoint=FILE_OR_URL
          FILE_OR_URL: a pre-training checkpoint of configs/mvp/vitl16_in1k.py as it is, or any BEiT-L
          weight file.
Cost:     62,550 steps of 1024 images. GPU-hours: not measured by this project.
Expected: top-1 86.3 from MVP, 300 epochs (paper).
Measured: not trained by this project. Tests run it at debug size.
"""

_base_ = './vitb16_in1k.py'

model = dict(
    backbone=dict(
        arch='large',  # paper §4.1
        layer_scale_init_value=1e-5,  # BEiT recipe, large
        drop_path_rate=0.2,  # BEiT recipe, large
    ),
    head=dict(in_channels=1024),
)
train_dataloader = dict(batch_size=64)  # accumulated to 1024 on 8 GPUs

optim_wrapper = dict(
    optimizer=dict(lr=1e-3),  # BEiT recipe, large
    paramwise_cfg=dict(layer_decay_rate=0.75),  # BEiT recipe, large
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6 / 1e-3,  # from 1e-6; BEiT starts at 0, which MMEngine cannot
        by_epoch=True,
        begin=0,
        end=5,  # BEiT recipe, large
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-6 / 1e-3,  # to 1e-6 (BEiT recipe)
        by_epoch=True,
        begin=5,
        end=50,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=50)  # BEiT recipe, large
