"""MVP at debug size with a two-layer ViT of timm as the student, a random two-layer CLIP as the teacher.

Command:  python tools/train.py configs/mvp/timm_vittiny_debug.py \
              --cfg-options train_dataloader.dataset.data_root=DIR
Cost:     seconds an epoch on two CPU cores.
Expected: the loss falls. The weights are useless: the teacher is random.
Measured: in tests only.
"""

_base_ = './vittiny_debug.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TimmStudent',
        model_name='vit_small_patch16_dinov3',  # rotary positions, registers
        img_size=64,
        patch_size=8,
        model_args=dict(patch_size=8, embed_dim=96, depth=2, num_heads=3),
    ),
)
