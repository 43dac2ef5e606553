"""Pascal Context by names, without the background: 59 classes, 5,104 validation images."""

context59 = dict(
    type='OpenVocabulary',
    prefix='context59',
    classes='context59',
    of='both',
    dataloader=dict(
        batch_size=1,  # images differ in size
        num_workers=4,
        persistent_workers=True,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='mmseg.PascalContextDataset59',
            data_root='data/VOCdevkit/VOC2010',
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
            ann_file='ImageSets/SegmentationContext/val.txt',
            pipeline=[
                dict(type='LoadImageFromFile', _scope_='mvp_mm'),
                dict(type='Resize', scale=(2048, 336), keep_ratio=True),
                dict(type='mmseg.LoadAnnotations'),  # label 0 is ignored: the dataset tells it
                dict(type='mmseg.PackSegInputs'),
            ],
        ),
    ),
)
