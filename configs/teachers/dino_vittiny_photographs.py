"""The vision-only teacher of small photographs: DINO and iBOT, without names.

Command:  python tools/train_teacher.py configs/teachers/dino_vittiny_photographs.py --amp
          (leave out --amp on a CPU without native bf16)
          It needs lightly: pip install 'mvp_mm[teachers]'
Cost:     4,000 steps of 64 photographs in four views: 36 minutes for the last 3,500, one of two
          processes on two cores of the Xeon below.
Expected: k-NN of the classes held out above chance, 2.5 %.
Measured: 18.1 % by k-NN and 26.8 % by a linear probe of the classes held out. Seed 0, torch 2.14.1,
          2026-11-27, an Intel Xeon with AMX and avx512_bf16.

Same network, photographs and steps as configs/teachers/clip_vittiny_photographs.py; the recipe is that of
configs/teachers/dino_vittiny_scenes.py.
"""

_base_ = ['./dino_vittiny_scenes.py', '../_base_/datasets/tiny_imagenet.py']

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **_base_.seen_photographs,
        pipeline=[
            dict(type='LoadRGBImage'),
            dict(type='MultiView', num_views=[2, 2], transforms=[_base_.large, _base_.small]),
            dict(type='PackInputs'),
        ],
    ),
)

epochs = 8
model = dict(frozen_epochs=epochs)
param_scheduler = [dict(_base_.param_scheduler[0]), dict(_base_.param_scheduler[1], end=epochs)]
train_cfg = dict(max_epochs=epochs)
