"""MAE on the embedded scenes, through mmpretrain's own classes: a baseline for configs/mvp/vittiny_scenes.py.

Command:  python tools/train.py configs/mvp/vittiny_scenes_mae.py
Cost:     as configs/mvp/vittiny_scenes.py.
Expected: below CLIP as the teacher downstream (paper Tables 1 and 2).
Measured: trained in tests only, for two steps.

An encoder of the student's size, MAE's mask ratio and normalised pixels, the same scenes, crops and steps.
Downstream it is an MVPViT with absolute positions, bias on query, key and value, and no layer scale.
"""

_base_ = './vittiny_scenes.py'

model = dict(
    _delete_=True,
    type='MAE',
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=False,  # scenes are RGB already
    ),
    backbone=dict(
        type='MAEViT',
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=64,
        patch_size=8,
        mask_ratio=0.75,  # MAE
    ),
    neck=dict(
        type='MAEPretrainDecoder',
        num_patches=64,
        patch_size=8,
        embed_dim=96,
        decoder_embed_dim=64,
        decoder_depth=2,
        decoder_num_heads=4,
    ),
    head=dict(
        type='MAEPretrainHead',
        norm_pix=True,  # MAE
        patch_size=8,
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
    ),
)
pack = [dict(type='PackInputs', meta_keys=('sample_idx',))]
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline[:3] + pack))
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None
