"""Linear probe of a frozen ViT-B/16 on ImageNet-1K (paper §4.2; BEiT's protocol).

Command:  bash tools/dist_train.sh configs/linear_probe/vitb16_in1k.py 8 \
              --cfg-options model.backbone.init_cfg.checkpoint=FILE_OR_URL
          FILE_OR_URL: a pre-training checkpoint of configs/mvp/vitb16_in1k.py as it is, or any BEiT-B
          weight file. CLS or mean only: model.head.pooling=cls (or mean). The last four blocks only:
          model.backbone.out_indices=[8,9,10,11] model.head.blocks=[8,9,10,11]
Cost:     100 epochs of forward passes for all classifiers together. GPU-hours: not measured.
Expected: top-1 75.4 from MVP, 300 epochs (paper, which gives no details of its probe).
Measured: not trained by this project. Tests run it at debug size.

One linear classifier for each block and learning rate, each trained on its own, all in one run; the
evaluation prints a table and reports the best. `lr_multipliers=(1.0,)` alone is exactly BEiT's protocol.
"""

_base_ = [
    '../_base_/datasets/imagenet_finetune.py',
    '../_base_/default_runtime.py',
]

blocks = list(range(12))  # BEiT recipe: a classifier for every block
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],  # ImageNet, RGB, 0-255: as in pre-training
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(
        type='MVPViT',
        arch='base',  # paper §4.2
        img_size=224,
        patch_size=16,
        out_type='raw',
        out_indices=blocks,
        final_norm=False,  # BEiT recipe: outputs as the blocks give them
        frozen_stages=12,  # all of them
        layer_scale_init_value=0.1,  # BEiT recipe, base
        init_cfg=dict(type='Pretrained', checkpoint=None),  # to be given, see above
    ),
    head=dict(
        type='LinearProbeHead',
        num_classes=1000,
        in_channels=768,
        blocks=blocks,
        pooling='both',  # BEiT recipe: CLS and the mean of the patches, joined
        lr_multipliers=(0.1, 0.3, 1.0, 3.0),  # 1: BEiT recipe; the others are this project's choice
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(type='RandomResizedCrop', scale=224, interpolation='bilinear', backend='pillow'),  # BEiT recipe
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),  # BEiT recipe
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(_delete_=True, type='LinearProbeAccuracy')
test_evaluator = val_evaluator

optim_wrapper = dict(
    type='MVPOptimWrapper',
    precision='auto',  # of the backbone; the classifiers are float32 always, as BEiT's
    optimizer=dict(
        type='AdamW',
        lr=4e-3,  # BEiT recipe: 1e-3 for each 256 images; times lr_multipliers
        weight_decay=1e-4,  # BEiT recipe, on biases too
        betas=(0.9, 0.999),
        eps=1e-8,
    ),
    constructor='LinearProbeOptimWrapperConstructor',
)
param_scheduler = dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=0, end=100)  # BEiT recipe
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=1)  # BEiT recipe
auto_scale_lr = dict(base_batch_size=1024, enable=False)  # BEiT recipe

default_hooks = dict(checkpoint=dict(save_best='linear_probe/top1', rule='greater'))
