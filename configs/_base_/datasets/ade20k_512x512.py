"""ADE20K at 512x512 (BEiT's segmentation recipe): resize, crop, flip, photometric distortion.

`LoadAnnotations` has no scope: mmseg's inference removes it by exactly this name.
"""

data_root = 'data/ade/ADEChallengeData2016'
crop_size = (512, 512)  # paper §4.1
train_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='mmseg.RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmseg.PhotoMetricDistortion'),
    dict(type='mmseg.PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    # after Resize: the ground truth keeps its size
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='mmseg.PackSegInputs'),
]
# `tools/test.py --tta`: six scales, each with its mirror image. As in BEiT's multi-scale test the short side
# is at least the crop.
tta_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='mmseg.ResizeShortestEdge', scale=max(512, int(512 * ratio)), max_size=1 << 16)
                for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [dict(type='LoadAnnotations', reduce_zero_label=True)],
            [dict(type='mmseg.PackSegInputs')],
        ],
    ),
]
tta_model = dict(type='mmseg.SegTTAModel')

train_dataloader = dict(
    batch_size=2,  # x 8 GPUs = 16 (paper §4.1)
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='EndlessSampler', shuffle=True),
    dataset=dict(
        type='mmseg.ADE20KImages',
        data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmseg.ADE20KImages',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
