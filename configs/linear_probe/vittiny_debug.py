"""Linear probe at debug size: the student of configs/mvp/vittiny_debug.py on any small labelled folder.

Command:  python tools/train.py configs/linear_probe/vittiny_debug.py \
              --cfg-options train_dataloader.dataset.data_root=DIR val_dataloader.dataset.data_root=DIR \
              model.head.num_classes=3 model.backbone.init_cfg.checkpoint=FILE
          DIR: DIR/{train,val}/<class>/*, here with 3 classes and at least 8 images for training.
          FILE: a checkpoint of configs/mvp/vittiny_debug.py, or of vittiny_scenes*.py.
Cost:     seconds an epoch on two CPU cores.
Expected: the loss falls. vittiny_debug's teacher is random, so its student's accuracy means nothing.
Measured: in tests only.

Same parts as configs/linear_probe/vitb16_in1k.py; only sizes differ.
"""

_base_ = './vitb16_in1k.py'

blocks = list(range(4))
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=64,
        patch_size=8,
        out_indices=blocks,
        frozen_stages=4,
    ),
    head=dict(in_channels=96, blocks=blocks),
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

param_scheduler = dict(end=10)
train_cfg = dict(max_epochs=10)
default_hooks = dict(logger=dict(interval=1))
auto_scale_lr = dict(base_batch_size=16)
