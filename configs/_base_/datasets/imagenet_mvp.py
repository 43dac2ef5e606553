"""ImageNet-1K, or any folder of images, with BEiT's augmentation and block-wise masks.

Override the folder with `--cfg-options train_dataloader.dataset.data_root=DIR`. Images are read at any
depth below DIR/train, or below DIR where there is no `train`. Labels are not used.
"""

data_root = 'data/imagenet'
mask = dict(
    type='BlockwiseMask',
    input_size=14,  # 224 / 16
    num_masking_patches=75,  # paper §3.3.3
    min_num_patches=16,  # BEiT recipe
    min_aspect=0.3,  # BEiT recipe; the largest is 1 / 0.3
)
# The same draws in BEiT's order of work, by torchvision on the whole image, three times as slow:
# `--cfg-options train_dataloader.dataset.pipeline.0.reference=True`.
train_pipeline = [
    dict(
        type='FastCrop',  # reads the file as well
        size=224,  # paper §3.3.3; bicubic, BEiT recipe
        scale=(0.08, 1.0),  # BEiT recipe
        ratio=(3 / 4, 4 / 3),  # BEiT recipe
        flip=0.5,  # BEiT recipe
        brightness=0.4,  # BEiT recipe, as the next two; hue 0
        contrast=0.4,
        saturation=0.4,
    ),
    mask,
    dict(type='PackMaskedInputs'),
]
test_pipeline = [
    dict(type='LoadRGBImage'),
    dict(type='torchvision/Resize', size=256, interpolation='bicubic'),
    dict(type='torchvision/CenterCrop', size=224),
    mask,
    dict(type='PackMaskedInputs'),
]

train_dataloader = dict(
    batch_size=256,  # x 8 GPUs = 2048 (BEiT recipe)
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,  # BEiT recipe: 625 steps an epoch
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='EpochSampler', total_batch=2048, shuffle=True),
    dataset=dict(type='UnlabelledImages', data_root=data_root, split='train', pipeline=train_pipeline),
)

# `tools/test.py` reports how well the teacher's tokens are predicted.
test_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='UnlabelledImages',
        data_root=data_root,
        split='val',
        fixed_draws=True,  # the same mask for an image in every evaluation
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='TargetCosine')
test_cfg = dict()

custom_hooks = [
    dict(type='ThroughputHook'),
    dict(type='UnreadableImagesHook', max_share=0.1),
]
