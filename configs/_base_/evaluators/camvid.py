"""CamVid by names: 11 classes, 101 validation images."""

camvid = dict(
    type='OpenVocabulary',
    prefix='camvid',
    classes='camvid',
    of='both',
    dataloader=dict(
        batch_size=4,  # all are 480x360
        num_workers=4,
        persistent_workers=True,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='mmseg.CamVidDataset',
            data_root='data/camvid',
            data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
            pipeline=[
                dict(type='LoadImageFromFile', _scope_='mvp_mm'),
                dict(type='Resize', scale=(2048, 336), keep_ratio=True),
                dict(type='mmseg.LoadAnnotations'),
                dict(type='mmseg.PackSegInputs'),
            ],
        ),
    ),
)
