"""Pascal VOC 2012 by names, without the background: 20 classes, 1,449 validation images."""

voc20 = dict(
    type='OpenVocabulary',
    prefix='voc20',
    classes='voc21',
    background=0,  # ignored, as there is no threshold
    of='both',
    dataloader=dict(
        batch_size=1,  # images differ in size
        num_workers=4,
        persistent_workers=True,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='mmseg.PascalVOCDataset',
            data_root='data/VOCdevkit/VOC2012',
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
            ann_file='ImageSets/Segmentation/val.txt',
            pipeline=[
                dict(type='LoadImageFromFile', _scope_='mvp_mm'),
                dict(type='Resize', scale=(2048, 336), keep_ratio=True),
                dict(type='mmseg.LoadAnnotations'),
                dict(type='mmseg.PackSegInputs'),
            ],
        ),
    ),
)
