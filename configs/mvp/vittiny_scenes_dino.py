"""configs/mvp/vittiny_scenes.py with the embedded vision-only teacher (paper Table 5 in miniature).

Command:  python tools/train.py configs/mvp/vittiny_scenes_dino.py
Cost:     as configs/mvp/vittiny_scenes.py.
Expected: below CLIP as the teacher downstream (paper Table 5).
Measured: docs/miniature.md.
"""

_base_ = ['./vittiny_scenes.py', '../_base_/models/dino_vittiny.py']

model = dict(
    neck=dict(out_channels=128),
    target_generator=dict(
        _delete_=True,
        **_base_.dino_vittiny,
        pretrained='{{ fileDirname }}/../teachers/dino_vittiny_scenes.safetensors',
    ),
)
