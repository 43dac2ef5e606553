"""configs/mvp/vittiny_photographs.py with pixels as targets: masked image modelling without a teacher.

Command:  python tools/train.py configs/mvp/vittiny_photographs_pixel.py --amp
Cost:     as configs/mvp/vittiny_photographs.py, less the teacher's forward pass.
Expected: below both teachers downstream (paper Table 1).
Measured: of the classes held out 10.4 % by k-NN of its patches' mean, 12.7 % with CLS beside it, 18.9 % by a linear
          probe of both (docs/photographs.md). Seed 0, torch 2.14.1, 2026-11-27, an Intel Xeon with AMX and avx512_bf16.
"""

_base_ = './vittiny_photographs.py'

model = dict(
    neck=dict(out_channels=192),  # 8 * 8 * 3
    target_generator=dict(_delete_=True, type='PixelTargetGenerator', patch_size=8),
)
evaluators = [_base_.knn_held_out]  # names are for a student of CLIP
