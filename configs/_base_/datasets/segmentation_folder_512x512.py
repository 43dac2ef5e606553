"""Images and label maps in two folders at 512x512, with the augmentation of ade20k_512x512.py.

A folder `data_root` with images/{train,val}/* and annotations/{train,val}/*: a PNG for each image, of the
same name, whose values are class numbers from 0; 255 is ignored.
"""

crop_size = (512, 512)
train_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(type='LoadAnnotations'),  # without its scope: mmseg's inference leaves it out by this very name
    dict(type='mmseg.CheckLabelMap'),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='mmseg.RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmseg.PhotoMetricDistortion'),
    dict(type='mmseg.PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='LoadAnnotations'),  # after Resize: the ground truth keeps its size
    dict(type='mmseg.CheckLabelMap'),
    dict(type='mmseg.PackSegInputs'),
]
# `tools/test.py --tta`: six scales, each with its mirror image; the short side is at least the crop.
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
            [dict(type='LoadAnnotations')],
            [dict(type='mmseg.CheckLabelMap')],
            [dict(type='mmseg.PackSegInputs')],
        ],
    ),
]
tta_model = dict(type='mmseg.SegTTAModel')

dataset = dict(type='mmseg.SegmentationFolder', data_root='data/mine')
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='EndlessSampler', shuffle=True),
    dataset=dict(
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        pipeline=train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        pipeline=test_pipeline,
        **dataset,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
