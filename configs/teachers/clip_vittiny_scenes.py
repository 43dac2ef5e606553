"""The embedded teacher: a tiny CLIP (open_clip) from the captions of the embedded scenes.

Command:  python tools/train_teacher.py configs/teachers/clip_vittiny_scenes.py --amp
          (leave out --amp on a CPU without native bf16)
Cost:     3,120 steps of 128 scenes: about 40 core-minutes (one thread and a loader worker on an AMD EPYC).
Expected: zero-shot shape and colour of the main object far above chance, 12.5 % each.
Measured: 51.2 % and 94.1 % of 1,000 validation scenes, seed 0, torch 2.14.1, 2026-11-23. Repeated a day later, after
          changes to the code: 51.1 % and 94.1 %.

The weights of that run are beside this file: clip_vittiny_scenes.safetensors, sha256 edbc1b34...e55144.
"""

_base_ = '../_base_/default_runtime.py'

shapes = ('circle', 'square', 'triangle', 'star', 'cross', 'ring', 'crescent', 'arrow')
colours = ('red', 'orange', 'yellow', 'green', 'cyan', 'blue', 'purple', 'pink')
article = dict(orange='an')
model = dict(
    type='OpenCLIP',
    model_name='{{ fileDirname }}/clip_vittiny_scenes.json',
    prompts=dict(
        shape=[[f'{article.get(c, "a")} {c} {s}' for c in colours] for s in shapes],
        colour=[[f'{article.get(c, "a")} {c} {s}' for s in shapes] for c in colours],
    ),
)

pipeline = [
    # no flip: captions say left and right
    dict(type='PackInputs', meta_keys=('sample_idx', 'caption', 'shape', 'colour')),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='EpochSampler', total_batch=128, shuffle=True),
    dataset=dict(type='SceneImages', count=40000, captions=True, pipeline=pipeline),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=1,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='SceneImages', split='val', count=1000, captions=True, pipeline=pipeline),
)
val_evaluator = dict(type='AttributeAccuracy', attributes=('shape', 'colour'))
val_cfg = dict()

epochs = 10
optim_wrapper = dict(
    type='MVPOptimWrapper',
    precision='auto',
    optimizer=dict(
        type='AdamW', lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98), eps=1e-6
    ),  # CLIP's betas, eps
    constructor='MVPOptimWrapperConstructor',
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=300),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-2,
        by_epoch=True,
        begin=0,
        end=epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1)
auto_scale_lr = dict(base_batch_size=128, enable=False)
custom_hooks = [dict(type='ThroughputHook')]
