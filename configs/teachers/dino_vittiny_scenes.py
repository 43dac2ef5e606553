"""The embedded vision-only teacher: DINO and iBOT on the embedded scenes, without their captions.

Command:  python tools/train_teacher.py configs/teachers/dino_vittiny_scenes.py --amp
          (leave out --amp on a CPU without native bf16)
          It needs lightly: pip install 'mvp_mm[teachers]'
Cost:     3,125 steps of 64 scenes in four views: about 45 minutes on one thread and a loader worker of an AMD EPYC.
Expected: linear probes of shape and colour above chance, 12.5 % each.
Measured: 18.6 % and 71.8 % of 2,000 test scenes (k-NN 14.7 % and 50.5 %), seed 0, torch 2.14.1, 2026-11-24. Shape after
          one epoch 15.0 %, after three 18.2 %; SimCLR's loss did no better in the time of one epoch (15.8 %).
          Repeated after changes to the code: 16.3 % and 72.7 % (14.0 % and 52.2 %).

The weights of that run are beside this file: dino_vittiny_scenes.safetensors, sha256 e0c5feab...2ef1e8. Same network and scenes
as configs/teachers/clip_vittiny_scenes.py, as many steps, and about the same core-minutes.
"""

_base_ = './clip_vittiny_scenes.py'

vit = dict(
    model_name='vit_tiny_patch16_224',
    img_size=64,
    patch_size=8,
    embed_dim=128,  # these three as the CLIP teacher's vision branch
    depth=4,
    num_heads=4,
)
epochs = 5
model = dict(
    _delete_=True,
    type='DINO',
    vit=vit,
    patch_weight=1.0,  # iBOT
    koleo_weight=0.1,  # DINOv2
    # not DINO's 0.996: the teacher would follow too slowly in so short a run
    momentum=0.99,
    # to the end: with batches of 64, the loss rises towards that of a uniform guess once they move
    frozen_epochs=epochs,
)

jitter = [
    dict(type='torchvision/RandomHorizontalFlip', p=0.5),  # DINO
    dict(
        type='RandomApply',
        prob=0.8,  # DINO
        transforms=[
            dict(type='torchvision/ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
        ],
    ),
    dict(type='torchvision/RandomGrayscale', p=0.2),  # DINO
]
large = [
    dict(type='torchvision/RandomResizedCrop', size=64, scale=(0.4, 1.0), interpolation='bicubic'),  # DINO
    *jitter,
]
small = [
    # DINO's begin at 0.05
    dict(type='torchvision/RandomResizedCrop', size=32, scale=(0.15, 0.4), interpolation='bicubic'),
    *jitter,
]
train_dataloader = dict(
    batch_size=64,
    sampler=dict(total_batch=64),
    dataset=dict(
        captions=False,
        pipeline=[
            dict(type='MultiView', num_views=[2, 2], transforms=[large, small]),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = None
val_evaluator = None
val_cfg = None

optim_wrapper = dict(
    # Chosen by this project: DINO's rate would be 1.25e-4 at this batch, and its decay rises to 0.4.
    optimizer=dict(lr=1e-3, weight_decay=0.04, betas=(0.9, 0.999), eps=1e-8),
    clip_grad=dict(max_norm=3.0),  # DINO
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
train_cfg = dict(max_epochs=epochs)
auto_scale_lr = dict(base_batch_size=64)
