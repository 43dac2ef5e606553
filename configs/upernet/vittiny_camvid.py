"""UperNet on a tiny student, CamVid (11 classes), minutes on a CPU.

Command:  bash tools/dist_train.sh configs/upernet/vittiny_camvid.py 1 \
              --cfg-options train_dataloader.dataset.data_root=DIR val_dataloader.dataset.data_root=DIR \
              test_dataloader.dataset.data_root=DIR [model.backbone.init_cfg.checkpoint=FILE]
Cost:     minutes on two CPU cores.
Expected: at least 10 points of mIoU above the best constant class.
Measured: 20.9 mIoU against 2.7 (benchmarks/results/camvid_cpu_2026-11-23.md).

DIR holds images/{train,val} and annotations/{train,val}. From scratch, unless a checkpoint is given.
"""

_base_ = './vitb16_ade20k_160k_512x512.py'

norm_cfg = dict(type='BN', requires_grad=True)  # SyncBN needs GPUs
crop_size = (192, 192)
classes = 11
model = dict(
    data_preprocessor=dict(size=crop_size, test_cfg=dict(size=crop_size)),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=192,
        patch_size=8,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.0,
        init_cfg=dict(optional=True),  # without a checkpoint: from scratch
    ),
    neck=dict(embed_dim=96, norm_cfg=norm_cfg),
    decode_head=dict(in_channels=[96] * 4, channels=64, num_classes=classes, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=96, channels=32, num_classes=classes, norm_cfg=norm_cfg),
    test_cfg=dict(crop_size=crop_size, stride=(128, 128)),
)

data_root = 'data/camvid'
train_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(type='LoadAnnotations'),
    dict(type='mmseg.CheckLabelMap'),
    dict(type='RandomResize', scale=(480, 360), ratio_range=(0.5, 1.0), keep_ratio=True),
    dict(type='mmseg.RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmseg.PhotoMetricDistortion'),
    dict(type='mmseg.PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(type='Resize', scale=(360, 270), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='mmseg.CheckLabelMap'),
    dict(type='mmseg.PackSegInputs'),
]
# `tools/test.py --tta`: three scales, each with its mirror image.
tta_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=(width, 3 * width // 4), keep_ratio=True)
                for width in (288, 360, 432)
            ],
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='mmseg.CheckLabelMap')],
            [dict(type='mmseg.PackSegInputs')],
        ],
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        type='mmseg.CamVidDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        type='mmseg.CamVidDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(layer_decay_rate=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=400),
]
train_cfg = dict(max_iters=400, val_interval=400)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=400))
auto_scale_lr = dict(base_batch_size=8)
