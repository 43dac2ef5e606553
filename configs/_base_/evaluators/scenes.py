"""The embedded scenes by names: the most visible object's shape and colour, and the shape of every pixel."""

_loader = dict(
    batch_size=100,
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
_images = dict(
    type='SceneImages',
    split='val',
    count=1000,
    pipeline=[dict(type='PackMaskedInputs', fields=('gt_label',))],
)
_colours = ['red', 'orange', 'yellow', 'green', 'cyan', 'blue', 'purple', 'pink']
_shapes = ['circle', 'square', 'triangle', 'star', 'cross', 'ring', 'crescent', 'arrow']

scenes_shape = dict(
    type='ZeroShot',
    of='both',
    prefix='scenes_shape',
    classes=_shapes,
    dataloader=dict(**_loader, dataset=dict(**_images, label='shape')),
)
scenes_colour = dict(
    type='ZeroShot',
    of='both',
    prefix='scenes_colour',
    classes=_colours,
    templates=[f'a {{}} {shape}' for shape in _shapes],
    dataloader=dict(**_loader, dataset=dict(**_images, label='colour')),
)
scenes = dict(
    type='OpenVocabulary',
    of='both',
    prefix='scenes',
    classes='scenes',
    background=0,  # its pixels are ignored: it has no look of its own, and the teacher does not know the word
    dataloader=dict(
        **dict(_loader, collate_fn=dict(type='pseudo_collate')),
        dataset=dict(
            type='mmseg.SceneSegmentation',
            split='val',
            count=500,
            pipeline=[dict(type='mmseg.PackSegInputs')],
        ),
    ),
)
