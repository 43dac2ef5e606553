"""Linear probe of a frozen tiny student on the embedded scenes: the shape, or the colour, of the main object.

Command:  python tools/train.py configs/linear_probe/vittiny_scenes.py --cfg-options \
              model.backbone.init_cfg.checkpoint=FILE
          FILE: a checkpoint of configs/mvp/vittiny_scenes*.py as it is. The colour instead of the shape:
          train_dataloader.dataset.label=colour, and the same for val_dataloader and test_dataloader.
          k-NN, without training: configs/finetune/vittiny_scenes.py
Cost:     a minute or two on two CPU cores.
Expected: above 12.5 %, which is chance.
Measured: not by this config; the probe of docs/miniature.md is a logistic regression.
"""

_base_ = './vitb16_in1k.py'

blocks = list(range(4))
num_classes = 8
model = dict(
    data_preprocessor=dict(num_classes=num_classes, to_rgb=False),  # scenes are RGB already
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=64,
        patch_size=8,
        out_indices=blocks,
        frozen_stages=4,
    ),
    head=dict(num_classes=num_classes, in_channels=96, blocks=blocks),
)

pipeline = [dict(type='PackInputs', meta_keys=('sample_idx',))]
train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    sampler=dict(total_batch=128),
    dataset=dict(_delete_=True, type='SceneImages', label='shape', count=3000, pipeline=pipeline),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        _delete_=True, type='SceneImages', split='val', label='shape', count=1000, pipeline=pipeline
    ),
)
test_dataloader = dict(
    num_workers=1,
    dataset=dict(
        _delete_=True, type='SceneImages', split='test', label='shape', count=2000, pipeline=pipeline
    ),
)
param_scheduler = dict(end=20)
train_cfg = dict(max_epochs=20, val_interval=5)
default_hooks = dict(checkpoint=dict(interval=20))
auto_scale_lr = dict(base_batch_size=128)
