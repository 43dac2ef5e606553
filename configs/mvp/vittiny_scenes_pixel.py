"""configs/mvp/vittiny_scenes.py with pixels as targets: masked image modelling without a teacher.

Command:  python tools/train.py configs/mvp/vittiny_scenes_pixel.py
Cost:     as configs/mvp/vittiny_scenes.py, less the teacher's forward pass.
Expected: below both teachers downstream (paper Table 1).
Measured: docs/miniature.md.
"""

_base_ = './vittiny_scenes.py'

model = dict(
    neck=dict(out_channels=192),  # 8 * 8 * 3
    target_generator=dict(_delete_=True, type='PixelTargetGenerator', patch_size=8),
)
