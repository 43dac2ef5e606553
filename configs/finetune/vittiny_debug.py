"""Fine-tune at debug size: the student of configs/mvp/vittiny_debug.py on any small labelled folder.

Command:  python tools/train.py configs/finetune/vittiny_debug.py \
              --cfg-options train_dataloader.dataset.data_root=DIR val_dataloader.dataset.data_root=DIR \
              model.head.num_classes=3 model.backbone.init_cfg.checkpoint=FILE
          DIR: DIR/{train,val}/<class>/*, here with 3 classes and at least 8 images for training.
          FILE: a checkpoint of configs/mvp/vittiny_debug.py; from scratch: model.backbone.init_cfg=None
Cost:     seconds an epoch on two CPU cores.
Expected: the loss falls. The student's teacher was random, so its accuracy means nothing.
Measured: in tests only.

Same parts as configs/finetune/vitb16_in1k.py; only sizes differ.
"""

_base_ = './vitb16_in1k.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=64,
        patch_size=8,
    ),
    head=dict(in_channels=96),
)

train_pipeline = _base_.train_pipeline
train_pipeline[1].scale = 64
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 72
test_pipeline[2].crop_size = 64
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(total_batch=16),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-2,
        by_epoch=True,
        begin=2,
        end=10,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=10)
default_hooks = dict(logger=dict(interval=1))
auto_scale_lr = dict(base_batch_size=16)
