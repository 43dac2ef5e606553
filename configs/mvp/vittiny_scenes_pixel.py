"""As configs/mvp/vittiny_scenes.py, guided by the pixels themselves: masked image modelling without a teacher.

Command:  python tools/train.py configs/mvp/vittiny_scenes_pixel.py
Cost:     as configs/mvp/vittiny_scenes.py, without the teacher's share.
Expected: below the guidance of either teacher downstream (paper Table 1).
Measured: docs/miniature.md.
"""

_base_ = './vittiny_scenes.py'

model = dict(
    neck=dict(out_channels=192),  # 8 * 8 * 3
    target_generator=dict(_delete_=True, type='PixelTargetGenerator', patch_size=8),
)
