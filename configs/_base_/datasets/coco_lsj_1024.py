"""COCO 2017 with large-scale jitter at 1024x1024 (ViTDet appendix A.2)."""

data_root = 'data/coco'
size = (1024, 1024)  # ViTDet appendix A.2
train_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(
        type='RandomResize',
        scale=size,
        ratio_range=(0.1, 2.0),  # ViTDet appendix A.2
        keep_ratio=True,
        resize_type='mmdet.Resize',
    ),
    dict(
        type='mmdet.RandomCrop',
        crop_type='absolute',
        crop_size=size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    # An image whose crop has no instance stays, as in detectron2.
    dict(type='mmdet.FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(type='mmdet.Resize', scale=size, keep_ratio=True),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

train_dataloader = dict(
    batch_size=2,  # x 8 GPUs x 4 accumulated iterations = 64 (ViTDet appendix A.2)
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='EndlessSampler', shuffle=True),
    dataset=dict(
        type='mmdet.CocoImages',
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),  # as in mmdet's and detectron2's
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmdet.CocoImages',
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmdet.CocoMetric',
    ann_file=f'{data_root}/annotations/instances_val2017.json',
    metric=['bbox', 'segm'],
)
test_evaluator = val_evaluator
