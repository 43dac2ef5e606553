"""ADE20K by names: 150 classes, 2,000 validation images."""

ade20k = dict(
    type='OpenVocabulary',
    prefix='ade20k',
    classes='ade20k',
    of='both',
    dataloader=dict(
        batch_size=1,  # images differ in size
        num_workers=4,
        persistent_workers=True,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='mmseg.ADE20KDataset',
            data_root='data/ade/ADEChallengeData2016',
            data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
            pipeline=[
                dict(type='LoadImageFromFile', _scope_='mvp_mm'),
                dict(type='Resize', scale=(2048, 336), keep_ratio=True),
                dict(type='mmseg.LoadAnnotations'),  # label 0 is ignored: the dataset tells it
                dict(type='mmseg.PackSegInputs'),
            ],
        ),
    ),
)
