"""SimMIM on the embedded scenes, through mmpretrain's own classes: a baseline for configs/mvp/vittiny_scenes.py.

Command:  python tools/train.py configs/mvp/vittiny_scenes_simmim.py
Cost:     as configs/mvp/vittiny_scenes.py, less the teacher's forward pass.
Expected: below CLIP as the teacher downstream.
Measured: trained in tests only, for two steps.

The student's network in mmpretrain's class, SimMIM's mask ratio, one linear layer and L1 on masked
pixels; the same scenes, crops and steps.
"""

_base_ = './vittiny_scenes.py'

custom_imports = dict(imports=['mvp_mm.models.baselines.token_map'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='SimMIM',
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=False,  # scenes are RGB already
    ),
    backbone=dict(
        type='BEiTPretrainViT',
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=64,
        patch_size=8,
        out_type='raw',
        final_norm=True,
        use_abs_pos_emb=False,
        use_rel_pos_bias=False,
        use_shared_rel_pos_bias=True,
        layer_scale_init_value=0.1,
        drop_path_rate=0.1,
    ),
    neck=[
        dict(type='TokenMap', height=8),
        dict(type='SimMIMLinearDecoder', in_channels=96, encoder_stride=8),
    ],
    head=dict(
        type='SimMIMHead',
        patch_size=8,
        loss=dict(type='PixelReconstructionLoss', criterion='L1', channel=3),  # SimMIM
    ),
)
mask = dict(
    type='SimMIMMaskGenerator',
    input_size=64,
    mask_patch_size=16,
    model_patch_size=8,
    mask_ratio=0.6,  # SimMIM
)
pack = dict(type='PackInputs', meta_keys=('sample_idx',))
train_dataloader = dict(dataset=dict(pipeline=[*_base_.train_pipeline[:3], mask, pack]))
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None
