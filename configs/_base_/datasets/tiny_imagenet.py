"""Tiny-ImageNet in shards: 200 classes, of which 40 are held out of every training (docs/rils.md)."""

tiny_imagenet = 'data/tiny_imagenet'
# sorted(random.Random(0).sample(range(200), 40)): classes are numbered by their WordNet ids, in order
held_out = [10, 18, 24, 25, 35, 37, 52, 55, 64, 66, 72, 77, 79, 80, 84, 90, 91, 98, 103, 107]
held_out += [111, 113, 120, 122, 124, 129, 130, 133, 136, 141, 143, 149, 154, 156]
held_out += [158, 163, 175, 185, 190, 194]
seen = [number for number in range(200) if number not in held_out]
seen_photographs = dict(type='ImageTextShards', data_root=tiny_imagenet, labels=seen)  # to train on

_photographs_pipeline = [
    dict(type='LoadRGBImage'),
    dict(type='torchvision/Resize', size=64, interpolation='bicubic'),
    dict(type='torchvision/CenterCrop', size=64),
    dict(type='PackMaskedInputs', fields=('gt_label',)),
]
_photographs_loader = dict(
    batch_size=100,
    num_workers=1,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
_photographs = dict(type='ImageTextShards', data_root=tiny_imagenet, pipeline=_photographs_pipeline)
_validation = dict(**_photographs, split='val')
_names = dict(classes=f'{tiny_imagenet}/classes.txt')
_by_names = dict(type='ZeroShot', templates='simple')

zero_shot_seen = dict(
    **_by_names,
    prefix='seen',
    among=seen,
    dataloader=dict(**_photographs_loader, dataset=dict(**_validation, **_names, labels=seen)),
)
zero_shot_held_out = dict(
    **_by_names,
    prefix='held_out',
    among=held_out,
    dataloader=dict(**_photographs_loader, dataset=dict(**_validation, **_names, labels=held_out)),
)
# Features of a class that no training has seen, beside its own training photographs
knn_held_out = dict(
    type='KNN',
    prefix='knn_held_out',
    ks=(20,),
    train_dataloader=dict(**_photographs_loader, dataset=dict(**_photographs, labels=held_out)),
    dataloader=dict(**_photographs_loader, dataset=dict(**_validation, labels=held_out)),
)
