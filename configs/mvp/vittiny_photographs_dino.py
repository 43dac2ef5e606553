"""configs/mvp/vittiny_photographs.py with the photographs' vision-only teacher (paper Table 5 in miniature).

Command:  python tools/train.py configs/mvp/vittiny_photographs_dino.py --amp
Cost:     as configs/mvp/vittiny_photographs.py.
Expected: below CLIP as the teacher downstream (paper Table 5).
Measured: of the classes held out 18.5 % by k-NN of its patches' mean, 20.6 % with CLS beside it, 28.7 % by a linear
          probe of both (docs/photographs.md). Seed 0, torch 2.14.1, 2026-11-27, an Intel Xeon with AMX and avx512_bf16.

The teacher's weights are made by configs/teachers/dino_vittiny_photographs.py, and lie where this file names them
or where --cfg-options model.target_generator.pretrained=FILE does.
"""

_base_ = ['./vittiny_photographs.py', '../_base_/models/dino_vittiny.py']

model = dict(
    target_generator=dict(
        _delete_=True,
        **_base_.dino_vittiny,
        pretrained='{{ fileDirname }}/../teachers/dino_vittiny_photographs.safetensors',
    ),
)
evaluators = [_base_.knn_held_out]  # names are for a student of CLIP
