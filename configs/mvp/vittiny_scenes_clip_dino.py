"""configs/mvp/vittiny_scenes.py with both embedded teachers at once, CLIP and DINO, a head for each.

Command:  python tools/train.py configs/mvp/vittiny_scenes_clip_dino.py
Cost:     configs/mvp/vittiny_scenes.py and the second teacher, which is as large as the first.
Expected: what each teacher alone is good for, in one student; it speaks through the head of CLIP.
Measured: docs/miniature.md, where it is compared with each teacher alone.
"""

_base_ = './vittiny_scenes.py'

teachers = '{{ fileDirname }}/../teachers'
model = dict(
    type='MultiTeacherMVP',
    neck=dict(_delete_=True, type='MVPNecks', in_channels=96, out_channels=dict(clip=96, dino=128)),
    target_generator=dict(
        _delete_=True,
        type='TargetGenerators',
        patch_size=8,
        teachers=dict(
            clip=dict(
                type='CLIPTargetGenerator',
                model_name=teachers + '/clip_vittiny_scenes.json',
                pretrained=teachers + '/clip_vittiny_scenes.safetensors',
            ),
            dino=dict(  # as in configs/mvp/vittiny_scenes_dino.py
                type='TimmTargetGenerator',
                model_name='vit_tiny_patch16_224',
                model_args=dict(
                    img_size=64,
                    patch_size=8,
                    embed_dim=128,
                    depth=4,
                    num_heads=4,
                    pretrained_cfg_overlay=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
                ),
                pretrained=teachers + '/dino_vittiny_scenes.safetensors',
            ),
        ),
    ),
)
