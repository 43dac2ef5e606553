"""ImageNet-1K by open_clip's class names and CLIP's 80 templates: 50,000 validation images."""

imagenet = dict(
    type='ZeroShot',
    of='both',
    classes='imagenet',
    templates='openai',
    dataloader=dict(
        batch_size=128,
        num_workers=8,
        persistent_workers=True,
        collate_fn=dict(type='default_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='LabelledImages',
            data_root='data/imagenet',
            split='val',
            pipeline=[  # CLIP's
                dict(type='LoadRGBImage'),
                dict(type='torchvision/Resize', size=224, interpolation='bicubic'),
                dict(type='torchvision/CenterCrop', size=224),
                dict(type='PackMaskedInputs', fields=('gt_label',)),
            ],
        ),
    ),
)
