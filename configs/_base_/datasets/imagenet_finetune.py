"""Labelled ImageNet-1K with BEiT's fine-tuning augmentation, through mmpretrain's transforms.

Layout: data/imagenet/{train,val}/<wnid>/*; another place, or any other folder DIR/{train,val}/<class>/* of,
say, three classes: --cfg-options train_dataloader.dataset.data_root=DIR val_dataloader.dataset.data_root=DIR
test_dataloader.dataset.data_root=DIR model.head.num_classes=3. The sub-folders of train are the classes.
"""

data_root = 'data/imagenet'
bgr_mean = [103.53, 116.28, 123.675]  # ImageNet's, in the order of the loaded image
bgr_std = [57.375, 57.12, 58.395]

train_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(
        type='RandomResizedCrop',
        scale=224,  # paper §4.1
        crop_ratio_range=(0.08, 1.0),  # BEiT recipe (timm's default)
        aspect_ratio_range=(3 / 4, 4 / 3),  # BEiT recipe (timm's default)
        interpolation='bicubic',  # BEiT recipe: --train_interpolation bicubic
        backend='pillow',
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),  # BEiT recipe
    dict(  # BEiT recipe: --aa rand-m9-mstd0.5-inc1
        type='RandAugment',
        policies='timm_increasing',  # inc1
        num_policies=2,  # timm's default
        magnitude_level=9,  # m9
        magnitude_std=0.5,  # mstd0.5
        total_level=10,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
    ),
    dict(
        type='RandomErasing',
        erase_prob=0.25,  # BEiT recipe: --reprob 0.25; one rectangle (--recount 1)
        mode='rand',  # BEiT recipe: --remode pixel, with fill_std: a normal draw for each pixel
        min_area_ratio=0.02,  # timm's default
        max_area_ratio=1 / 3,  # timm's default
        aspect_range=(0.3, 1 / 0.3),  # timm's default
        fill_color=bgr_mean,
        fill_std=bgr_std,
    ),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(
        type='ResizeEdge', scale=256, edge='short', interpolation='bicubic', backend='pillow'
    ),  # BEiT recipe
    dict(type='CenterCrop', crop_size=224),  # BEiT recipe
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=128,  # x 8 GPUs = 1024 (BEiT recipe)
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),  # one tensor, so one copy to the GPU
    drop_last=True,  # BEiT recipe: 1251 steps an epoch
    sampler=dict(type='EpochSampler', total_batch=1024, shuffle=True),
    dataset=dict(type='LabelledImages', data_root=data_root, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),  # one tensor, so one copy to the GPU
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='LabelledImages', data_root=data_root, split='val', pipeline=test_pipeline),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()

custom_hooks = [dict(type='ThroughputHook'), dict(type='ClassCountHook')]
