"""configs/mvp/vittiny_scenes.py with the embedded vision-only teacher (paper Table 5 in miniature).

Command:  python tools/train.py configs/mvp/vittiny_scenes_dino.py
Cost:     as configs/mvp/vittiny_scenes.py.
Expected: below CLIP as the teacher downstream (paper Table 5).
Measured: docs/miniature.md.
"""

_base_ = './vittiny_scenes.py'

model = dict(
    neck=dict(out_channels=128),
    target_generator=dict(
        _delete_=True,
        type='TimmTargetGenerator',
        model_name='vit_tiny_patch16_224',
        model_args=dict(
            img_size=64,
            patch_size=8,
            embed_dim=128,
            depth=4,
            num_heads=4,
            # it was trained with ImageNet's statistics, not with this timm model's
            pretrained_cfg_overlay=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ),
        pretrained='{{ fileDirname }}/../teachers/dino_vittiny_scenes.safetensors',
        patch_size=8,
    ),
)
