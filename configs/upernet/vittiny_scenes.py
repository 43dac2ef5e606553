"""UperNet on the embedded scenes with few labels: nine classes, 64x64, nothing to download.

Command:  python tools/train.py configs/upernet/vittiny_scenes.py --cfg-options \
              train_dataloader.dataset.count=300 model.backbone.init_cfg.checkpoint=FILE
          FILE: a checkpoint of configs/mvp/vittiny_scenes*.py as it is. From scratch: model.backbone.init_cfg=None
Cost:     1,000 steps of 16 scenes: 2.5 minutes on one thread of an AMD EPYC.
Expected: more mIoU from a pre-trained student than from scratch.
Measured: docs/miniature.md.
"""

_base_ = './vittiny_camvid.py'

size = (64, 64)
classes = 9
model = dict(
    data_preprocessor=dict(size=size, test_cfg=dict(size=size)),
    backbone=dict(
        img_size=64,
        drop_path_rate=0.1,
        init_cfg=dict(optional=False),
    ),
    neck=dict(rescales=[2, 1, 0.5, 0.25]),  # strides 4, 8, 16, 32, as of the paper's 16-pixel patches
    decode_head=dict(num_classes=classes),
    auxiliary_head=dict(num_classes=classes),
    test_cfg=dict(_delete_=True, mode='whole'),
)

train_pipeline = [
    dict(type='RandomResize', scale=size, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='mmseg.RandomCrop', crop_size=size, cat_max_ratio=1.0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmseg.PhotoMetricDistortion'),
    dict(type='mmseg.PackSegInputs'),
]
test_pipeline = [  # scenes are loaded already, and of this size: the first two steps are for your images
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(type='Resize', scale=size, keep_ratio=True),
    dict(type='mmseg.PackSegInputs'),
]
# `tools/test.py --tta`: three scales, each with its mirror image. First the scene as it is: mmseg compares the
# merged prediction with the labels of the first.
tta_pipeline = [
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(side, side), keep_ratio=True) for side in (64, 48, 80)],
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [dict(type='mmseg.PackSegInputs')],
        ],
    ),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(_delete_=True, type='mmseg.SceneSegmentation', count=300, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    dataset=dict(
        _delete_=True, type='mmseg.SceneSegmentation', split='val', count=500, pipeline=test_pipeline
    ),
)
test_dataloader = dict(
    batch_size=50,
    num_workers=1,
    dataset=dict(
        _delete_=True, type='mmseg.SceneSegmentation', split='test', count=1000, pipeline=test_pipeline
    ),
)

# What each guidance chose of the comparison's two recipes (docs/miniature.md)
optim_wrapper = dict(optimizer=dict(lr=2e-2), paramwise_cfg=dict(layer_decay_rate=0.35))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=100, end=1000),
]
train_cfg = dict(max_iters=1000, val_interval=1000)
default_hooks = dict(checkpoint=dict(interval=1000))
auto_scale_lr = dict(base_batch_size=16)
