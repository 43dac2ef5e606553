"""configs/mvp/vittiny_scenes.py with both embedded teachers at once, CLIP and DINO, a head for each.

Command:  python tools/train.py configs/mvp/vittiny_scenes_clip_dino.py
Cost:     configs/mvp/vittiny_scenes.py and the second teacher, which is as large as the first.
Expected: between the students of each teacher alone; it speaks through the head of CLIP.
Measured: linear probe of shape 32.6 ± 0.4 %, colour 86.6 ± 1.2 % (three seeds, an Intel Xeon with AMX and avx512_bf16,
          torch 2.14.1, 2026-11-27); beside each teacher alone in docs/miniature.md.
"""

_base_ = ['./vittiny_scenes.py', '../_base_/models/dino_vittiny.py']

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
            dino=dict(**_base_.dino_vittiny, pretrained=teachers + '/dino_vittiny_scenes.safetensors'),
        ),
    ),
)
