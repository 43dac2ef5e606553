"""Fine-tune ViT-B/16 on ImageNet-1K, end to end, 100 epochs (paper §4.1, Table 1; BEiT's recipe).

Command:  bash tools/dist_train.sh configs/finetune/vitb16_in1k.py 8 \
              --cfg-options model.backbone.init_cfg.checkpoint=FILE_OR_URL
          FILE_OR_URL: a pre-training checkpoint of configs/mvp/vitb16_in1k.py as it is, or any BEiT-B
          weight file. One GPU: python tools/train.py with the same options (8 accumulated iterations).
Cost:     125,100 steps of 1024 images. GPU-hours: not measured by this project.
Expected: top-1 84.4 from MVP, 300 epochs (paper); 83.9 from 100 epochs, 83.6 with DINO as the teacher.
Measured: not trained by this project. Tests run it at debug size.

Another labelled folder DIR/{train,val}/<class>/*: see configs/_base_/datasets/imagenet_finetune.py.
"""

_base_ = [
    '../_base_/datasets/imagenet_finetune.py',
    '../_base_/schedules/finetune_adamw.py',
    '../_base_/default_runtime.py',
]

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
        arch='base',  # paper §4.1
        img_size=224,  # paper §4.1
        patch_size=16,
        out_type='avg_featmap',  # BEiT recipe: mean of the patch tokens through a fresh norm
        norm_cfg=dict(type='LN', eps=1e-6),  # BEiT recipe
        final_norm=False,  # BEiT recipe: the fresh norm takes its place
        bias='qv_bias',  # BEiT recipe
        use_rel_pos_bias=True,  # BEiT recipe: a table for each block, started from the shared one
        use_shared_rel_pos_bias=False,
        use_abs_pos_emb=False,  # BEiT recipe
        layer_scale_init_value=0.1,  # BEiT recipe, base
        drop_path_rate=0.1,  # BEiT recipe, base
        init_cfg=dict(type='Pretrained', checkpoint=None),  # to be given, see above
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),  # BEiT recipe
        # BEiT recipe: normal(0, 0.02) cut at +-2, then times 0.001; bias 0
        init_cfg=dict(
            type='TruncNormal', layer='Linear', std=0.02 * 0.001, a=-2 * 0.001, b=2 * 0.001, bias=0.0
        ),
    ),
    # BEiT recipe: every batch is mixed, one way or the other with probability 0.5; labels are smoothed in the mix
    train_cfg=dict(
        augments=[
            dict(type='Mixup', alpha=0.8),  # BEiT recipe
            dict(type='CutMix', alpha=1.0),  # BEiT recipe
        ]
    ),
)

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', rule='greater'))
