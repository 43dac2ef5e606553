"""Pascal Context by names, with the background: 60 classes, 5,104 validation images."""

context60 = dict(
    type='OpenVocabulary',
    prefix='context60',
    classes='context60',
    background=0,
    threshold=0.1,  # SCLIP
    of='both',
    dataloader=dict(
        batch_size=1,  # images differ in size
        num_workers=4,
        persistent_workers=True,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='mmseg.PascalContextDataset',
            data_root='data/VOCdevkit/VOC2010',
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
            ann_file='ImageSets/SegmentationContext/val.txt',
            pipeline=[
                dict(type='LoadImageFromFile', _scope_='mvp_mm'),
                dict(type='Resize', scale=(2048, 336), keep_ratio=True),
                dict(type='mmseg.LoadAnnotations'),
                dict(type='mmseg.PackSegInputs'),
            ],
        ),
    ),
)
