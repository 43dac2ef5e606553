"""COCO-Stuff 164k by names: 171 classes, 5,000 validation images."""

coco_stuff = dict(
    type='OpenVocabulary',
    prefix='coco_stuff',
    classes='coco_stuff',
    of='both',
    dataloader=dict(
        batch_size=1,  # images differ in size
        num_workers=4,
        persistent_workers=True,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='mmseg.COCOStuffDataset',
            data_root='data/coco_stuff164k',
            data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
            pipeline=[
                dict(type='LoadImageFromFile', _scope_='mvp_mm'),
                dict(type='Resize', scale=(2048, 336), keep_ratio=True),
                dict(type='mmseg.LoadAnnotations'),
                dict(type='mmseg.PackSegInputs'),
            ],
        ),
    ),
)
